// A provider for the tests: node provider.js PORT. Prints its issuer when it answers.
//
// Anybody signs in under any name (devInteractions); GROUPS of a name: alice-at-readers-and-ops -> readers, ops.
import http from "node:http";
import { Provider } from "oidc-provider";

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const HUB = "https://iothubs.azure.net";

const groupsOf = (name) => (name.split("-at-")[1] || "").split("-and-").filter(Boolean);

const client = (id, more) => ({ client_id: id, grant_types: [], redirect_uris: [], response_types: [], ...more });
const service = (id) =>
  client(id, {
    client_secret: `${id}-secret-of-a-test`,
    grant_types: ["client_credentials"],
    token_endpoint_auth_method: "client_secret_post",
  });

const provider = new Provider(issuer, {
  clients: [
    ...["dashboards", "importer", "stranger"].map(service),
    client("hubkeep", {
      application_type: "web",
      token_endpoint_auth_method: "none",
      grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
      response_types: ["code"],
      redirect_uris: (process.argv[3] || "https://127.0.0.1/none").split(","),
    }),
  ],
  jwks: JSON.parse(process.env.JWKS),
  cookies: { keys: ["of a test"] },
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async (_ctx, it) => it.grantTypeAllowed("refresh_token"),
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => HUB,
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, resource) => ({
        audience: resource,
        scope: "openid profile offline_access",
        accessTokenFormat: "jwt",
        accessTokenTTL: 3600,
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  ttl: { Grant: 86400, Session: 86400, Interaction: 600, DeviceCode: 600, IdToken: 600, RefreshToken: 86400 },
  extraTokenClaims: (_ctx, token) => {
    const name = token.accountId || token.clientId;
    return { preferred_username: name, groups: groupsOf(name) };
  },
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, groups: groupsOf(id) }),
  }),
});

http.createServer(provider.callback()).listen(port, "127.0.0.1", () => console.log(issuer));
