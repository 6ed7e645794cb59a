// Evaluates flags through an OpenFeature client of the server or the web: [type, key, default, targeting key, attributes] each.
const METHODS = {
  boolean: "getBooleanDetails",
  string: "getStringDetails",
  integer: "getNumberDetails",
  float: "getNumberDetails",
  object: "getObjectDetails",
};

export function contextOf([, , , targetingKey, attributes]) {
  return { targetingKey, ...attributes };
}

export async function evaluate(client, call) {
  const [type, key, fallback] = call;
  const details = await client[METHODS[type]](key, fallback, contextOf(call));
  return {
    value: details.value,
    variant: details.variant ?? null,
    reason: details.reason ?? null,
    error: details.errorCode ?? null,
    message: details.errorMessage ?? null,
  };
}
