declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}
declare module "*/plan.json" {
  const text: string;
  export default text;
}
declare module "*/bitsets.bin" {
  const data: ArrayBuffer;
  export default data;
}

/** Set by build.mjs: whether this build has the parts too that sync_job/assemble.py knows few deployments to use. */
declare const IS_FULL: boolean;
