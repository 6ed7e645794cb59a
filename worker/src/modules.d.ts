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
