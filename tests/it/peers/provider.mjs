// An OpenID provider with a key of its own, made at its start: provider.mjs PORT TENANT [REDIRECT]
// It gives the client `orders` access tokens for the audience `orders`, and says `ready` once it does. To the client
// `console`, at REDIRECT, it vouches for whoever gives a name.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [port, tenant, redirect] = process.argv.slice(2);
const groups = { ann: ["staff", "acme-developers"], eve: ["operators"] };
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
  }, ...(redirect ? [{
    client_id: "console",
    client_secret: "a secret of the console",
    redirect_uris: [redirect],
  }] : [])],
  scopes: ["openid", "email", "groups", "orders:read"],
  claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
  conformIdTokenClaims: false,
  findAccount: (_, accountId) => ({
    accountId,
    claims: () => ({
      sub: accountId,
      email: `${accountId}@example.com`,
      email_verified: true,
      groups: groups[accountId] ?? ["staff"],
    }),
  }),
  // Nobody is asked whether the console may know who they are.
  loadExistingGrant: async ({ oidc }) => {
    const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope("openid email groups");
    await grant.save();
    return grant;
  },
  jwks: { keys: [key] },
  extraTokenClaims: () => ({ tenant_id: tenant }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: Boolean(redirect) },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_, client) => (client.clientId === "orders" ? "urn:orders" : undefined),
      getResourceServerInfo: () => ({
        audience: "orders",
        scope: "orders:read",
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});
// Whoever waits for that reads no further: what is noticed later goes where nobody is surprised by it.
provider.listen(Number(port), "127.0.0.1", () => {
  console.log("ready");
  console.info = console.log = console.error;
});
