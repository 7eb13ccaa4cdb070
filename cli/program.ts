/**
 * The commands of `podlane`: their arguments, help and examples. What a command does stands in commands.ts, so that `--help` and the
 * offline commands load nothing of the agent.
 */
import { join, resolve } from "node:path";
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { version } from "../agent/version.ts";
import { Families } from "../bgpd/family.ts";
import { isAddress, parsePrefix } from "../net/address.ts";
import { CliError } from "./error.ts";
import { paintFor } from "./render/paint.ts";
import type { Terminal } from "./terminal.ts";

const DEFAULT_SOCKET = "/run/podlane/agent.sock";
const DEFAULT_STATE = "/var/lib/podlane";
const DEFAULT_BIN_DIR = "/opt/cni/bin";
const DEFAULT_CONF_DIR = "/etc/cni/net.d";

const EXIT_CODES = `
Exit codes: 0 done, 1 it failed, 2 it was called wrongly.`;

/** Runs the command line and returns the exit code. Errors are printed to `complain`. `name`: what users type, as help says it. */
export async function run(
  words: readonly string[],
  terminal: Terminal,
  complain: (text: string) => void,
  name = "podlane",
): Promise<number> {
  let exitCode = 0;
  const program = buildProgram(name, terminal, code => {
    exitCode = code;
  });
  const json = words.includes("--json");
  const fail = (error: string, remedy: string) =>
    complain(json ? `${JSON.stringify({ error, remedy })}\n` : `podlane: ${error}\n  ${remedy}\n`);
  const output = { writeOut: terminal.print, writeErr: json ? () => {} : complain };
  for (const command of [program, ...program.commands.flatMap(one => [one, ...one.commands])])
    command.configureOutput(output).exitOverride();
  try {
    await program.parseAsync(words as string[], { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      // Without --json the parser has printed it already, with its hint.
      if (json)
        fail(error.message.replace(/^error: /, ""), `see ${name} ${words.find(isCommandOf(program)) ?? ""} --help`.replace("  ", " "));
      return 2;
    }
    if (error instanceof CliError) {
      fail(error.message, error.remedy);
      return error.exitCode;
    }
    throw error;
  }
}

function isCommandOf(program: Command): (word: string) => boolean {
  return word => program.commands.some(command => command.name() === word);
}

function buildProgram(name: string, terminal: Terminal, setExitCode: (code: number) => void): Command {
  const program = new Command(name)
    .description("BGP pod networking for bare-metal Kubernetes.")
    .helpCommand("help [command]", "Show the help of a command.")
    .version(`podlane ${version}`, "-V, --version", "print the version")
    .showHelpAfterError(`Try "${name} --help".`)
    .addHelpText(
      "after",
      `${EXIT_CODES}\n\n"${name} COMMAND --help" shows examples. Colours appear on a terminal only; NO_COLOR=1 switches them off.`,
    );

  const add = <Usage extends string>(usage: Usage, description: string, examples: [command: string, what: string][], parent = program) => {
    const named = examples.map(([command, what]) => [command.replace(/\bpodlane (?=[a-z])/, `${name} `), what]);
    const widest = Math.max(...named.map(([command]) => command.length));
    const lines = named.map(([command, what]) => `  ${command.padEnd(widest)}  ${what}`);
    const command = parent.command(usage).description(description).allowExcessArguments(false);
    command.showHelpAfterError(`Try "${name} ${parent === program ? "" : `${parent.name()} `}${command.name()} --help".`);
    return command.addHelpText("after", `\nExamples:\n${lines.join("\n")}`);
  };
  const ask = <Usage extends string>(usage: Usage, description: string, examples: [command: string, what: string][]) =>
    add(usage, description, examples)
      .addOption(new Option("--socket <path>", "the agent's socket").env("PODLANE_SOCKET").default(DEFAULT_SOCKET))
      .option("--json", "print JSON instead of a table");
  /** Of this node, or of another one of the cluster. */
  const askAny = <Usage extends string>(usage: Usage, description: string, examples: [command: string, what: string][]) =>
    ask(usage, description, examples)
      .addOption(
        new Option("--node <name>", "ask the agent of this node of the cluster, through the API server, with your own rights").conflicts(
          "socket",
        ),
      )
      .addOption(namespaceOption())
      .addOption(kubeconfigOption())
      .addOption(contextOption());

  add("agent", "Run the agent of a node, in the foreground.", [
    ["podlane agent --node node1 --config /etc/podlane", "run, and follow changes of the files"],
    ["podlane agent --node node1 --config . --log-level debug", "show every step of every session"],
    ["podlane agent --node node1 --kubernetes", "in a pod of the cluster: objects from the API server"],
    ["podlane agent --node node1 --kubeconfig /etc/podlane/kubeconfig", "the same on the node itself"],
    ["podlane agent --node node1 --config /etc/podlane --install-cni", "be the node's pod network as soon as it can serve pods"],
    ["podlane agent --node node1 --config . --metrics-listen 127.0.0.1:9479", "Prometheus asks http://127.0.0.1:9479/metrics"],
  ])
    .addOption(new Option("--node <name>", "the name of this node, as in the node list").env("NODE_NAME").makeOptionMandatory())
    .option("--config <directory>", "where the objects are (*.yaml)")
    .option("--kubernetes", "the objects are in the API server of the cluster that this pod is of")
    .option("--kubeconfig <file>", "the objects are in the API server that this file names")
    .addOption(
      new Option("--api-server <url>", "with --kubernetes: where the API server is, when its Service cannot be reached yet").env(
        "PODLANE_API_SERVER",
      ),
    )
    .option("--state <directory>", "where addresses in use and the last good plan are kept", DEFAULT_STATE)
    .option("--socket <path>", "where the local API listens", DEFAULT_SOCKET)
    .addOption(new Option("--log-level <level>", "how much to log").choices(["debug", "info", "warn", "error"]).default("info"))
    .addOption(new Option("--log-format <format>", "default: pretty on a terminal, else json").choices(["pretty", "json"]))
    .addOption(
      new Option(
        "--on-stop <what>",
        "at SIGTERM neighbours keep this node's routes for a restart (RFC 4724), or withdraw them; auto: withdraw when the machine stops, else keep",
      )
        .choices(["auto", "keep", "withdraw"])
        .default("auto"),
    )
    .addOption(
      new Option(
        "--metrics-listen <address:port>",
        "serve metrics for Prometheus, /healthz and /readyz here, as 127.0.0.1:9479 or [::]:9479; default: nowhere",
      ).argParser(readEndpoint),
    )
    .option("--metrics-tls-cert <file>", "serve them over HTTPS, with this certificate (PEM; read again when it changes)")
    .option("--metrics-tls-key <file>", "its key")
    .option("--metrics-tls-client-ca <file>", "give /metrics only to clients with a certificate of this CA")
    .option(
      "--log-drops",
      "packets that NetworkPolicies drop go to the kernel's log, at most one a second for each set of policies that pods have",
    )
    .option("--install-cni", "install the CNI executable and the network's list when the node can serve pods, and keep them current")
    .option("--cni-bin-dir <directory>", "with --install-cni: where the runtime looks for executables", DEFAULT_BIN_DIR)
    .option("--cni-conf-dir <directory>", "with --install-cni: where the runtime looks for networks", DEFAULT_CONF_DIR)
    .action(async ({ installCni, cniBinDir: binDir, cniConfDir: confDir, ...options }) => {
      requireOneSource(options);
      const cni = installCni && { binDir, confDir, ...pluginPaths(options) };
      process.exit(await (await import("../agent/main.ts")).runAgent({ ...options, metrics: metricsOf(options), ...(cni && { cni }) }));
    });

  askAny("peers", "List the neighbours and the state of their sessions.", [
    ["podlane peers", "a table"],
    ["podlane peers --node n1", "those of another node, from a workstation"],
    ["podlane peers --json | jq '.peers[] | select(.state != \"Established\").name'", "what is down"],
  ]).action(async options => (await commands()).peers(options, terminal));

  askAny("peer <name>", "Show all about one neighbour; refresh or reset its session.", [
    ["podlane peer tor-a", "state, timers, capabilities, counters, why it was last down"],
    ["podlane peer tor-a --refresh in", "ask it for all its routes again (RFC 2918)"],
    ['podlane peer tor-a --reset "new line card"', "end the session with this reason and start again"],
  ])
    .addOption(new Option("--refresh <direction>", "ask for its routes again (in), or send ours again (out)").choices(["in", "out"]))
    .addOption(new Option("--reset <reason>", "end the session and start again").conflicts("refresh"))
    .action(async (name, options) => (await commands()).peer(name, options, terminal));

  askAny("routes", "List the routes in the BGP table: all candidates of each prefix.", [
    ["podlane routes", "the first hundred"],
    ["podlane routes 10.244.2.0/24", "the candidates for this prefix"],
    ["podlane routes 10.244.0.0/16 --longer", "this prefix and all inside it"],
    ["podlane routes --neighbor tor-a --family ipv6-unicast --limit 1000", "what one neighbour offers"],
    ["podlane routes --limit 1000 --after 10.3.7.0/24", "the next page"],
  ])
    .addArgument(new Argument("[prefix]", "a prefix, or an address: then the longest prefix that covers it").argParser(readPrefix))
    .option("--longer", "also all inside the prefix")
    .option("--neighbor <name>", "only what this neighbour sent")
    .addOption(new Option("--family <family>", "only this family").choices(Families))
    .addOption(new Option("--limit <number>", "how many to show on a page, 1 to 10000").argParser(readLimit).default(100))
    .addOption(new Option("--after <prefix>", "the page that begins after this prefix").argParser(readPrefix))
    .action(async (prefix, options) => (await commands()).routes(prefix, options, terminal));

  askAny("explain", "Explain a prefix: who offers it, why this path, who hears it; or a connection of pods: which policy lets it pass.", [
    ["podlane explain 10.244.2.0/24", "why the traffic goes where it goes"],
    ["podlane explain 10.244.2.7", "the prefix that covers this address"],
    ["podlane explain 0.0.0.0/0 --json", "the same for programs"],
    ["podlane explain shop/web → shop/db:5432/TCP", "which rule of which NetworkPolicy lets it pass, or drops it"],
    ["podlane explain shop/web 192.0.2.7:443", "the same towards an address; the arrow may be left out"],
  ])
    .addArgument(new Argument("<what...>", "a prefix, or an address: then the prefix that covers it; or a pod, and a pod with port"))
    .action(async (what, options) => {
      // Also in quotes, as the shell wants it around "->".
      const [first, ...more] = what.flatMap(word => word.trim().split(/\s+/));
      if (more.length > 0) return (await commands()).explainConnection([first, ...more], options, terminal);
      return (await commands()).explain(readPrefix(first), options, terminal);
    });

  ask("services [name]", "Show what becomes of the addresses of Services on a node: announced, or why not.", [
    ["podlane services", "a table of all addresses"],
    ["podlane services web -n shop", "one Service: why, who is told, and what to do"],
    ["podlane services shop/web --node n1", "the same on another node, from a workstation"],
    ["podlane services shop/web --all-nodes", "which nodes announce it, a line each"],
    ["podlane services --json | jq '.services[].verdicts[] | select(.link == \"NoEndpoints\").service'", "those without a ready endpoint"],
  ])
    .addOption(new Option("-n, --namespace <name>", "only Services of this namespace"))
    .addOption(new Option("--limit <number>", "how many Services to show on a page, 1 to 10000").argParser(readLimit).default(100))
    .option("--after <service>", "the page that begins after this one, NAMESPACE/NAME")
    .addOption(new Option("--node <name>", "ask the agent of this node, through the API server, with your own rights").conflicts("socket"))
    .addOption(new Option("--all-nodes", "ask the agents of all nodes so, and show a line for each").conflicts(["socket", "node"]))
    .option("--agents-namespace <name>", "with --node and --all-nodes: where the agents' pods are (default: podlane-system)")
    .addOption(kubeconfigOption())
    .addOption(contextOption())
    .action(async (name, options) => (await import("./services.ts")).services(name, options, terminal));

  askAny("policies", "List NetworkPolicies and cluster policies: how many pods of this node each selects, and what was dropped for it.", [
    ["podlane policies", "a table"],
    ["podlane policies --node n1", "those of another node, from a workstation"],
    ["podlane policies --json | jq '.policies[] | select(.pods | length == 0).policy'", "those that select no pod here"],
  ]).action(async options => (await commands()).policies(options, terminal));

  askAny("pods", "List the pods of this node with their addresses and interfaces.", [
    ["podlane pods", "a table"],
    ["podlane pods | grep 10.244.1.7", "whose address this is"],
    ["podlane pods --json | jq '.attachments[] | select(.state == \"reserved\")'", "those whose ADD was begun and never acknowledged"],
  ]).action(async options => (await commands()).pods(options, terminal));

  askAny("status", "Show on one screen how this node is doing.", [
    ["podlane status", "sessions, routes, pods, problems"],
    ["watch -c podlane status", "follow it"],
  ]).action(async options => (await commands()).status(options, terminal));

  askAny("problems", "List what is configured and is wrong or has no effect, each with a remedy.", [
    ["podlane problems", "all of them, errors first"],
    ["podlane problems --exit-code", "for scripts: exit code 1 when there is an error"],
  ])
    .option("--exit-code", "exit with 1 when there is an error")
    .action(async options => setExitCode(await (await commands()).problems(options, terminal)));

  ask("plan", "Show what a node does, or would do with the files of a directory; or, offline, what any node would.", [
    ["podlane plan", "the plan in use"],
    ["podlane plan --node n1", "that of another node, through the API server"],
    [
      "podlane plan --config ./objects",
      "what the agent here would do with them: which sessions it would reset, which open connections its policies refuse",
    ],
    ["podlane plan --config ./objects --node node2", "a dry run, without an agent"],
  ])
    .option("--config <directory>", "what the objects here would come to, in place of those in use")
    .option("--node <name>", "with --config: for which node, without an agent; else: ask the agent of this node, through the API server")
    .addOption(namespaceOption())
    .addOption(kubeconfigOption())
    .addOption(contextOption())
    .action(async options => setExitCode(await (await commands()).plan(options, terminal)));

  add("validate <directory>", "Check the objects of a directory for every node in it, without an agent.", [
    ["podlane validate ./objects", "exit code 1 when there is an error"],
    ["podlane validate ./objects --json", "the problems for programs"],
  ])
    .option("--json", "print JSON instead of text")
    .action(async (directory, options) => setExitCode(await (await commands()).validate(directory, options, terminal)));

  askAny("reload", "Make the agent read its configuration now, and show what it did.", [
    ["podlane reload", "the same as SIGHUP, with an answer"],
  ]).action(async options => (await commands()).reload(options, terminal));

  ask("leave", "Withdraw this node's routes from all neighbours and end the agent: the node leaves for good.", [
    ["podlane leave", "before the machine is taken away; SIGTERM alone is taken for a restart"],
  ]).action(async options => (await commands()).leave(options, terminal));

  askAny("events", "Follow what happens, one line each, until Ctrl-C.", [
    ["podlane events", "sessions, reloads, problems"],
    ["podlane events --json", "one JSON object per line"],
  ]).action(async options => (await commands()).events(options, terminal));

  const cni = add("cni", "Install the CNI plugin on this node, or remove it.", [
    ["podlane cni install", "the executable, then the network's list"],
    ["podlane cni uninstall", "the list, then the executable"],
  ]).helpCommand(false);
  const onNode = <Usage extends string>(usage: Usage, description: string, examples: [command: string, what: string][]) =>
    add(usage, description, examples, cni)
      .option("--bin-dir <directory>", "where the runtime looks for executables", DEFAULT_BIN_DIR)
      .option("--conf-dir <directory>", "where the runtime looks for networks", DEFAULT_CONF_DIR)
      .option("--dry-run", "say what would be done, and change nothing")
      .option("--json", "print JSON instead of text");
  onNode("install", "Install the executable, then the network's list; what is there is replaced at one stroke. May be repeated.", [
    ["podlane cni install", "for containerd and CRI-O as they come"],
    ["podlane cni install --dry-run", "what that would change"],
    ["podlane cni install --socket /run/other.sock", "for an agent that listens elsewhere"],
  ])
    .option("--socket <path>", "the agent's socket, where it is not the usual one")
    .action(async options => (await commands()).cniInstall(options, terminal));
  onNode("uninstall", "Remove the network's list, then the executable. Drain the node first.", [
    ["podlane cni uninstall", "the runtime then takes the next network that it finds, or waits for one"],
  ]).action(async options => (await commands()).cniUninstall(options, terminal));

  add("uninstall", "Take podlane off this node: agent, files, links, routes, rules. Drain the node first; may be repeated.", [
    ["podlane uninstall --dry-run", "say what would go, and change nothing"],
    ["podlane uninstall", "with an agent that runs, which is asked to leave, or without"],
    ["podlane uninstall --force", "also while pods are attached: they lose their network"],
  ])
    .option("--state <directory>", "where the agent keeps addresses in use and the last good plan", DEFAULT_STATE)
    .addOption(new Option("--socket <path>", "the agent's socket").env("PODLANE_SOCKET").default(DEFAULT_SOCKET))
    .option("--cni-bin-dir <directory>", "where the runtime looks for executables", DEFAULT_BIN_DIR)
    .option("--cni-conf-dir <directory>", "where the runtime looks for networks", DEFAULT_CONF_DIR)
    .option("--force", "also while pods are attached")
    .option("--dry-run", "say what would be done, and change nothing")
    .option("--json", "print JSON instead of text")
    .action(async options => setExitCode(await (await commands()).uninstall(options, terminal)));

  add("cluster", "Show all nodes at once, the worst first: what their agents report to the API server.", [
    ["podlane cluster", "one line for each node"],
    ["podlane cluster --problems", "what is wrong, each once with the nodes that have it"],
    ["podlane cluster --exit-code >/dev/null", "for scripts: exit code 1 when something is wrong"],
    ["podlane cluster --json | jq '.nodes[] | select(.ready != \"True\").name'", "the same for programs"],
  ])
    .option("--problems", "list the problems in place of the nodes")
    .option("--exit-code", "exit with 1 when a node is not ready or not known, a session is down, or there is an error")
    .addOption(kubeconfigOption())
    .addOption(contextOption())
    .option("--json", "print JSON: nodes and problems")
    .action(async options => setExitCode(await (await import("./cluster.ts")).cluster(options, terminal)));

  add("version", "Print the version; also those of agents.", [
    ["podlane version --json", "with those of Node.js and the kernel"],
    ["podlane version --node n1", "and of the agent of a node"],
    ["podlane version --cluster", "and of all agents"],
  ])
    .addOption(new Option("--node <name>", "also of the agent of this node").conflicts("cluster"))
    .addOption(new Option("--cluster", "also of the agents of all nodes, as they report it").conflicts("namespace"))
    .addOption(namespaceOption())
    .addOption(kubeconfigOption())
    .addOption(contextOption())
    .option("--json", "print JSON")
    .action(async options => (await commands()).version(options, terminal));

  program
    .command("api", { hidden: true })
    .description("Relay standard input to the agent's socket, and its answer to standard output: what --node runs in the agent's pod.")
    .addOption(new Option("--socket <path>", "the agent's socket").default(DEFAULT_SOCKET))
    .option("--json", "errors as JSON")
    .action(async ({ socket }) => (await import("./relay.ts")).relay(socket));
  return program;
}

const commands = () => import("./commands.ts");

const namespaceOption = () => new Option("-n, --namespace <name>", "with --node: where the agents' pods are (default: podlane-system)");
const kubeconfigOption = () => new Option("--kubeconfig <file>", "how to reach the API server (default: KUBECONFIG, ~/.kube/config)");
const contextOption = () => new Option("--context <name>", "which of the kubeconfig's contexts to use");

/** Two would contradict each other one day, and nobody could say which one holds. */
function requireOneSource({ config, kubernetes, kubeconfig }: { config?: string; kubernetes?: true; kubeconfig?: string }): void {
  const named = [config !== undefined && "--config", kubernetes && "--kubernetes", kubeconfig !== undefined && "--kubeconfig"].filter(
    Boolean,
  );
  if (named.length === 1) return;
  if (named.length === 0)
    throw new CliError(
      "nothing says where the objects are",
      "name a directory with --config, or the API server with --kubernetes or --kubeconfig",
      2,
    );
  throw new CliError(`${named.join(" and ")} exclude each other`, "objects come from one place: keep one of them", 2);
}

/** What the CNI executable must be told, as it does not know it by itself. */
function pluginPaths({ socket, state }: { socket: string; state: string }): { socket?: string; queue?: string } {
  return {
    ...(socket !== DEFAULT_SOCKET && { socket: resolve(socket) }),
    ...(state !== DEFAULT_STATE && { queue: join(resolve(state), "del-queue") }),
  };
}

/** Here and not only in the agent: a slip of the pen is one whether or not an agent runs. */
function readPrefix(text: string): string {
  if (isAddress(text)) return text;
  try {
    parsePrefix(text);
    return text;
  } catch (error) {
    throw new CliError((error as Error).message, "write an address, or a prefix such as 10.244.2.0/24 or fd00:10:244:2::/64", 2);
  }
}

function readLimit(text: string): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > 10_000) throw new InvalidArgumentError("It is a whole number from 1 to 10000.");
  return value;
}

function readEndpoint(text: string): Endpoint {
  const [, v6, v4, digits] = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(text) ?? [];
  const [address, port] = [v6 ?? v4 ?? "", Number(digits)];
  if (!isAddress(address) || (v6 !== undefined) !== address.includes(":") || port < 1 || port > 65535)
    throw new InvalidArgumentError("Write an address of this node and a port, such as 127.0.0.1:9479, [::1]:9479, or [::]:9479 for all.");
  return { address, port };
}

interface Endpoint {
  address: string;
  port: number;
}

interface MetricsWords {
  metricsListen?: Endpoint;
  metricsTlsCert?: string;
  metricsTlsKey?: string;
  metricsTlsClientCa?: string;
}

function metricsOf({ metricsListen, metricsTlsCert: cert, metricsTlsKey: key, metricsTlsClientCa: clientCa }: MetricsWords) {
  if (!metricsListen && [cert, key, clientCa].some(file => file !== undefined))
    throw new CliError("the --metrics-tls options have no effect without --metrics-listen", "add --metrics-listen ADDRESS:PORT", 2);
  if ((cert === undefined) !== (key === undefined) || (clientCa !== undefined && cert === undefined))
    throw new CliError("TLS needs --metrics-tls-cert and --metrics-tls-key", "give both, or none of the --metrics-tls options", 2);
  if (!metricsListen) return undefined;
  return { ...metricsListen, ...(cert !== undefined && key !== undefined && { tls: { cert, key, clientCa } }) };
}

export function systemTerminal(): Terminal {
  return {
    print: text => void process.stdout.write(text),
    paint: paintFor(process.stdout, process.env),
    now: Date.now,
  };
}
