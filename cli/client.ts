/** Asks the agent: HTTP and JSON over its Unix socket, errors in words. The socket of another node's agent is reached by a stream. */
import type { IncomingMessage, RequestOptions } from "node:http";
import type { Duplex } from "node:stream";
import { request } from "../agent/node-http.ts";
import { CliError, explainSocketError } from "./error.ts";

/** Milliseconds without an octet until the agent counts as stuck. */
const PATIENCE = 30_000;
/** The largest answer, 10,000 routes, is some megabytes. */
const MAX_ANSWER = 256 << 20;

export type Query = Record<string, string | number | undefined>;

/** An agent elsewhere: remote.ts. */
export interface RemoteAgent {
  /** A way to its socket, which breaks off with an error when it is silent for `idle` milliseconds; 0: never. Rejects with CliError. */
  connect(idle: number): Promise<Duplex>;
  explain(error: Error): CliError;
}

export class AgentClient {
  readonly #agent: string | RemoteAgent;

  /** The path of its socket, or the way to it. */
  constructor(agent: string | RemoteAgent) {
    this.#agent = agent;
  }

  /** Throws CliError. */
  async get<View>(path: string, query: Query = {}): Promise<View> {
    return JSON.parse(await this.#text("GET", path, query)) as View;
  }

  async post<View>(path: string, query: Query = {}): Promise<View> {
    return JSON.parse(await this.#text("POST", path, query)) as View;
  }

  /** Each line of a stream, until the agent ends it. Throws CliError when it breaks off. */
  async *lines(path: string): AsyncGenerator<string> {
    const response = await this.#send("GET", path, {}, 0);
    let rest = "";
    try {
      for await (const chunk of response.setEncoding("utf8")) {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop()!;
        yield* lines;
      }
    } catch (error) {
      if (typeof this.#agent !== "string") throw this.#agent.explain(error as Error);
      throw new CliError("the connection to the agent broke off", "it was killed, or nobody read its events fast enough: see its log");
    }
  }

  async #text(method: string, path: string, query: Query): Promise<string> {
    const response = await this.#send(method, path, query, PATIENCE);
    return this.#readAll(response);
  }

  async #send(method: string, path: string, query: Query, timeout: number): Promise<IncomingMessage> {
    const parameters = new URLSearchParams(
      Object.entries(query).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
    ).toString();
    const target = parameters ? `${path}?${parameters}` : path;
    const way: RequestOptions = await this.#way(timeout);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = request({ ...way, method, path: target }, resolve);
      outgoing.on("timeout", () => outgoing.destroy(new CliError(`the agent has not answered for ${PATIENCE / 1000} s`, "see its log")));
      outgoing.on("error", error => reject(this.#explain(error)));
      outgoing.end();
    });
    if (response.statusCode === 200) return response;
    throw refusal(await this.#readAll(response));
  }

  async #way(timeout: number): Promise<RequestOptions> {
    if (typeof this.#agent === "string") return { socketPath: this.#agent, timeout };
    const stream = await this.#agent.connect(timeout);
    return { createConnection: () => stream };
  }

  async #readAll(response: IncomingMessage): Promise<string> {
    let text = "";
    try {
      for await (const chunk of response.setEncoding("utf8")) {
        text += chunk;
        if (text.length > MAX_ANSWER) throw new CliError("the answer is too long", "ask for less with --limit");
      }
    } catch (error) {
      throw this.#explain(error as Error);
    }
    return text;
  }

  #explain(error: Error): CliError {
    if (error instanceof CliError) return error;
    return typeof this.#agent === "string" ? explainSocketError(error, this.#agent) : this.#agent.explain(error);
  }
}

function refusal(text: string): CliError {
  try {
    const { error, remedy } = JSON.parse(text);
    return new CliError(String(error), String(remedy));
  } catch {
    return new CliError("what answers on the socket is not a podlane agent", "name the agent's socket with --socket");
  }
}
