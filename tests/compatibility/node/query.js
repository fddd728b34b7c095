// azure-iothub's paged queries. Arguments: connection string of a policy, query, page size.
"use strict";
const { Registry } = require("azure-iothub");

async function main(connectionString, text, size) {
  const query = Registry.fromConnectionString(connectionString).createQuery(text, Number(size));
  const pages = [];
  while (query.hasMoreResults) {
    const page = await new Promise((resolve, reject) =>
      query.next((error, results) => (error ? reject(error) : resolve(results))),
    );
    pages.push(page);
  }
  return pages;
}

main(...process.argv.slice(2)).then(
  (result) => console.log(JSON.stringify(result)),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
