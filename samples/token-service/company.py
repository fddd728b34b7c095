"""Stands in for a company's issuer: makes its key once, and a web token for one device.

    python company.py press-07        writes company-key.pem, company-keys.json (JWKS) and press-07.jwt

In earnest the issuer is there already, and each device has got its own credential from it.
"""

import json
import sys
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

device = sys.argv[1]
key_file = Path("company-key.pem")
if not key_file.exists():
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file.touch(mode=0o600)
    key_file.write_bytes(pem)
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    Path("company-keys.json").write_text(json.dumps({"keys": [{**public, "kid": "1", "use": "sig", "alg": "ES256"}]}))

claims = {
    "iss": "https://id.example.net",
    "aud": "hub-tokens",
    "sub": f"urn:example:press:{device}",
    "iat": int(time.time()),
    "exp": int(time.time()) + 30 * 86_400,
}
token_file = Path(f"{device}.jwt")
token_file.touch(mode=0o600)
token_file.write_text(jwt.encode(claims, key_file.read_bytes(), algorithm="ES256", headers={"kid": "1"}))
print(f"wrote {token_file}")
