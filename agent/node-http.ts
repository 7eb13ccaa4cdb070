/**
 * node:http as require() has it. An import reads each of its names once, WebSocket among them, which loads a whole HTTP client with it: 7 MB of memory and as
 * much of Node's executable, for nobody here.
 */
export const { createServer, request } = process.getBuiltinModule("node:http");
