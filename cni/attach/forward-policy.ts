/**
 * Packet filters of others that drop what is passed on, as a host's firewall or Docker sets them up: pods would reach nothing beyond their node. Where
 * FORWARD of iptables drops what no rule accepts, two rules of ours at its end accept what comes from the pods' link or goes there. A chain of
 * nftables that drops cannot be helped from elsewhere, since a packet has to pass them all: that is said.
 */
import { changeForward, type ForwardChain, forwardChains, type IptablesForward, iptablesForward, listChain } from "../../kernel/index.ts";
import type { IpFamily } from "../../net/address.ts";
import type { AttachProblem } from "../types.ts";

/** By it our rules are known again, also after a crash. */
const COMMENT = "podlane pods";

/** The links and the ranges that are to be passed on. */
export interface Passing {
  /** As iptables names them: "pl+" is all that begin so. */
  links: readonly string[];
  ranges: { family: IpFamily; text: string }[];
}

export class ForwardPolicy {
  #problems: AttachProblem[] = [];
  #running: Promise<unknown> = Promise.resolve();
  #cleared = false;

  problems(): AttachProblem[] {
    return this.#problems;
  }

  /** Looks, and adds or removes rules of ours as needed. Says in words what it did. Rejects never. */
  look(passing: Passing): Promise<string[]> {
    return this.#inTurn(async () => (this.#cleared ? [] : await this.#look(passing)));
  }

  /** Chains with rules of ours, in words. */
  async ownChains(): Promise<string[]> {
    const chains = await iptablesChains(await forwardChains());
    return chains.filter(chain => ours(chain).length > 0).map(nameOf);
  }

  /** Removes the rules of ours, for good. */
  clear(): Promise<string[]> {
    this.#cleared = true;
    return this.#inTurn(async () => {
      const texts: string[] = [];
      for (const chain of await iptablesChains(undefined)) texts.push(...(await removeRules(chain, ours(chain))));
      return texts;
    });
  }

  #inTurn(work: () => Promise<string[]>): Promise<string[]> {
    const next = this.#running.then(work).catch((error: Error) => [`packet filters could not be looked at: ${error.message}`]);
    this.#running = next;
    return next;
  }

  async #look({ links, ranges }: Passing): Promise<string[]> {
    const problems: AttachProblem[] = [];
    const texts: string[] = [];
    const link = links.join(" or ");
    const families = new Set<string>(ranges.map(({ family }) => (family === 4 ? "ip" : "ip6")));
    const chains = await forwardChains();
    const iptables = await iptablesChains(chains);
    for (const chain of iptables) {
      const wanted = chain.policy === "DROP" && families.has(chain.family) ? rulesFor(links) : [];
      const present = ours(chain);
      texts.push(
        ...(await removeRules(
          chain,
          present.filter(rule => !wanted.some(one => sameRule(one, rule))),
        )),
      );
      if (wanted.length === 0) continue;
      try {
        const missing = wanted.filter(rule => !present.some(one => sameRule(one, rule)));
        for (const rule of missing) await changeForward(chain, "-A", rule);
        if (missing.length > 0)
          texts.push(`${nameOf(chain)} drops what no rule accepts: added rules to accept what comes from ${link} or goes there`);
        problems.push(helped(chain, link));
      } catch (error) {
        problems.push(unhelped(nameOf(chain), `, and rules for ${link} cannot be added (${(error as Error).message})`, link));
      }
    }
    for (const chain of chains ?? []) {
      if (chain.policy !== "drop" || iptables.some(one => isThatOf(one, chain))) continue;
      if ((chain.family === "ip" || chain.family === "ip6") && !families.has(chain.family)) continue;
      const text = ranges.length > 0 ? await listChain(chain) : "";
      if (text === undefined) problems.push(unhelped(nftName(chain), ", and its rules cannot be listed", link));
      else if (ranges.length > 0 && !mentions(text, { links, ranges }))
        problems.push(unhelped(nftName(chain), ` and has none about ${link}`, link));
    }
    this.#problems = problems;
    return texts;
  }
}

/** Each variant for each family, as far as it has a chain. `chains`: of nftables; undefined = not known. */
async function iptablesChains(chains: ForwardChain[] | undefined): Promise<IptablesForward[]> {
  const found: IptablesForward[] = [];
  for (const family of ["ip", "ip6"] as const) {
    const inNft = !chains || chains.some(chain => chain.family === family && chain.table === "filter" && chain.name === "FORWARD");
    const both = [inNft ? await iptablesForward(family, true) : undefined, await iptablesForward(family, false)];
    for (const chain of both) if (chain) found.push(chain);
  }
  return found;
}

function rulesFor(links: readonly string[]): string[][] {
  return links.flatMap(link => ["-i", "-o"].map(direction => [direction, link, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"]));
}

/** Our rules in it, as arguments. */
function ours({ rules }: IptablesForward): string[][] {
  const quoted = `--comment "${COMMENT}"`;
  return rules
    .filter(rule => rule.includes(quoted))
    .map(rule =>
      rule
        .slice("-A FORWARD ".length)
        .split(quoted)
        .flatMap((part, at) => [...(at > 0 ? ["--comment", COMMENT] : []), ...part.trim().split(" ").filter(Boolean)]),
    );
}

function sameRule(a: readonly string[], b: readonly string[]): boolean {
  return a.join("\0") === b.join("\0");
}

async function removeRules(chain: IptablesForward, rules: readonly string[][]): Promise<string[]> {
  for (const rule of rules) await changeForward(chain, "-D", rule);
  return rules.length > 0 ? [`${nameOf(chain)}: removed the rules that are not needed any more`] : [];
}

function isThatOf({ nft, family }: IptablesForward, chain: ForwardChain): boolean {
  return nft && chain.family === family && chain.table === "filter" && chain.name === "FORWARD";
}

/** Somebody who wrote a rule about the link or the ranges knows of the pods: what such rules come to is not ours to judge. */
function mentions(text: string, { links, ranges }: Passing): boolean {
  // nft has a star where iptables has a plus.
  return links.some(link => text.includes(`"${link.replace("+", "*")}"`)) || ranges.some(range => text.includes(range.text));
}

function helped(chain: IptablesForward, link: string): AttachProblem {
  return {
    severity: "warning",
    reason: "ForwardRulesAdded",
    field: "FORWARD",
    message: `${nameOf(chain)} drops what no rule accepts (policy DROP); podlane added rules at its end that accept what comes from ${link} or goes there`,
    remedy: `nothing has to be done; after ${chain.command} -P FORWARD ACCEPT these rules go`,
  };
}

function unhelped(name: string, why: string, link: string): AttachProblem {
  return {
    severity: "warning",
    reason: "ForwardPolicyDrops",
    field: "FORWARD",
    message: `${name} drops what no rule accepts${why}: pods reach nothing beyond their node unless some rule accepts it`,
    remedy: `let it accept what comes from ${link} and what goes there; an accept in another chain does not help`,
  };
}

function nameOf({ command, family }: IptablesForward): string {
  return `the chain FORWARD of ${command} (${family === "ip" ? "IPv4" : "IPv6"}, table filter)`;
}

function nftName({ family, table, name, priority }: ForwardChain): string {
  return `the nftables chain ${name} of table ${family} ${table} (hook forward, priority ${priority})`;
}
