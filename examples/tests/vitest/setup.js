import { up } from "./devenv.js";

export default up;
