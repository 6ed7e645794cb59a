// The floor of a call to another Worker: as many arguments as a flag's, and a constant.
import { WorkerEntrypoint } from "cloudflare:workers";

export class Flags extends WorkerEntrypoint {
  getObjectValue(key, fallback, context) {
    return fallback;
  }
}

export default {};
