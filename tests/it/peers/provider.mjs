// An OpenID provider with a key of its own, made at its start: provider.mjs PORT TENANT
// It gives its one client access tokens for the audience `orders`, and says `ready` once it does.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [port, tenant] = process.argv.slice(2);
const require = createRequire(`${process.env.TOLLGATE_TEST_PEERS}/`);
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" };
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: "orders",
    client_secret: "a secret of the test",
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: "client_secret_post",
  }],
  scopes: ["orders:read"],
  jwks: { keys: [key] },
  extraTokenClaims: () => ({ tenant_id: tenant }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "urn:orders",
      getResourceServerInfo: () => ({
        audience: "orders",
        scope: "orders:read",
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
