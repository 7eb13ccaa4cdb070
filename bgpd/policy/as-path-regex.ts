/**
 * Regular expressions over the text of an AS_PATH, as routers have them. They are not given to the JavaScript engine: it backtracks, so a
 * pattern such as `(_1+)*_2` would let one long path stop the speaker. Here a pattern becomes a Thompson automaton whose states
 * are made deterministic as the input asks for them: one table look-up for each character, whatever the pattern.
 *
 * Known: digits and separators as themselves, `.`, `_` (start, end or any character between numbers), `^`, `$`, `[…]`, `[^…]`, `(…)`, `|`,
 * `*`, `+`, `?`, `{n}`, `{n,}`, `{n,m}` after an atom, `\` before a literal, `\d`. Elsewhere `{` and `}` are the braces of an AS_SET.
 */

/** Compiles to a test over the path's text (formatAsPath). Throws AsPathRegexError. */
export function compileAsPathRegex(pattern: string): (text: string) => boolean {
  if (pattern.length > MAX_PATTERN_LENGTH) {
    throw new AsPathRegexError(
      pattern,
      MAX_PATTERN_LENGTH,
      `it has ${pattern.length} characters, at most ${MAX_PATTERN_LENGTH} are allowed`,
    );
  }
  const automaton = new Automaton(new Parser(pattern).parse(), pattern);
  return text => automaton.test(text);
}

/** The message shows the pattern, where it is wrong and why. */
class AsPathRegexError extends Error {
  override readonly name = "AsPathRegexError";
  constructor(pattern: string, position: number, reason: string) {
    super(`AS path pattern "${pattern}", character ${position + 1}: ${reason}`);
  }
}

const MAX_PATTERN_LENGTH = 256;
const MAX_REPEAT = 64;
const MAX_STATES = 1000;
/** Deterministic states kept at a time; beyond it the table is begun anew, so memory stays bounded. */
const MAX_TABLE = 500;

/** All that the text of a path is made of; anything else is one more symbol that only `.`, `_` and negated sets match. */
const ALPHABET = "0123456789 {}(),[]";
const otherSymbol = ALPHABET.length;
const allSymbols = (1 << (ALPHABET.length + 1)) - 1;
const DIGITS = 0b11_1111_1111;

const symbolOf = new Uint8Array(128).fill(otherSymbol);
for (let i = 0; i < ALPHABET.length; i++) symbolOf[ALPHABET.charCodeAt(i)] = i;

type Node =
  | { kind: "symbols"; mask: number }
  | { kind: "start" }
  | { kind: "end" }
  | { kind: "sequence"; parts: Node[] }
  | { kind: "either"; parts: Node[] }
  | { kind: "repeat"; part: Node; min: number; max: number };

const boundary: Node = {
  kind: "either",
  parts: [{ kind: "start" }, { kind: "end" }, { kind: "symbols", mask: allSymbols & ~DIGITS }],
};

class Parser {
  readonly #pattern: string;
  #at = 0;

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  parse(): Node {
    const node = this.#alternatives();
    if (this.#at < this.#pattern.length) this.#fail('")" without "("');
    return node;
  }

  #alternatives(): Node {
    const parts = [this.#sequence()];
    while (this.#take("|")) parts.push(this.#sequence());
    return parts.length === 1 ? parts[0] : { kind: "either", parts };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    while (this.#at < this.#pattern.length && this.#peek() !== "|" && this.#peek() !== ")") parts.push(this.#repeated());
    return { kind: "sequence", parts };
  }

  #repeated(): Node {
    const first = this.#peek();
    const part = this.#atom();
    const bounds = this.#bounds(!"^$_".includes(first));
    if (!bounds) return part;
    if ("^$".includes(first)) this.#fail("^ and $ cannot be repeated");
    const node: Node = { kind: "repeat", part, ...bounds };
    if ("*+?".includes(this.#peek() || "x") || this.#counted()) this.#fail("a repetition of a repetition; use brackets: (…)");
    return node;
  }

  #bounds(countable: boolean): { min: number; max: number } | undefined {
    if (this.#take("*")) return { min: 0, max: Number.POSITIVE_INFINITY };
    if (this.#take("+")) return { min: 1, max: Number.POSITIVE_INFINITY };
    if (this.#take("?")) return { min: 0, max: 1 };
    const counted = countable ? this.#counted() : undefined;
    if (!counted) return undefined;
    const min = Number(counted[1]);
    const max = counted[2] === undefined ? min : counted[3] === "" ? Number.POSITIVE_INFINITY : Number(counted[3]);
    if (min > max || min > MAX_REPEAT || (max > MAX_REPEAT && max !== Number.POSITIVE_INFINITY)) {
      this.#fail(`a count of repetitions must rise and be at most ${MAX_REPEAT}`);
    }
    this.#at += counted[0].length;
    return { min, max };
  }

  #counted(): RegExpExecArray | undefined {
    return /^\{(\d{1,3})(,(\d{0,3}))?\}/.exec(this.#pattern.slice(this.#at)) ?? undefined;
  }

  #atom(): Node {
    const start = this.#at;
    const char = this.#pattern[this.#at++];
    if (char === "(") {
      const node = this.#alternatives();
      if (!this.#take(")")) this.#fail('"(" is not closed', start);
      return node;
    }
    if (char === "_") return boundary;
    if (char === "^") return { kind: "start" };
    if (char === "$") return { kind: "end" };
    if (char === ".") return { kind: "symbols", mask: allSymbols };
    if (char === "[") return { kind: "symbols", mask: this.#set(start) };
    if (char === "\\") return { kind: "symbols", mask: this.#escaped() };
    if ("*+?".includes(char)) this.#fail(`nothing before "${char}" to repeat`, start);
    return { kind: "symbols", mask: this.#literal(char, start) };
  }

  #escaped(): number {
    const char = this.#pattern[this.#at++];
    if (char === undefined) this.#fail('"\\" at the end', this.#at - 2);
    return char === "d" ? DIGITS : this.#literal(char, this.#at - 1);
  }

  #set(start: number): number {
    const negated = this.#take("^");
    let mask = 0;
    while (!this.#take("]")) {
      const at = this.#at;
      const char = this.#pattern[this.#at++];
      if (char === undefined) this.#fail('"[" is not closed', start);
      if (char === "\\") {
        mask |= this.#escaped();
      } else if (this.#peek() === "-" && this.#pattern[this.#at + 1] !== "]") {
        this.#at++;
        mask |= this.#range(char, this.#pattern[this.#at++] ?? "", at);
      } else {
        mask |= char === "_" ? allSymbols & ~DIGITS : this.#literal(char, at);
      }
    }
    if (mask === 0) this.#fail("an empty set", start);
    return negated ? allSymbols & ~mask : mask;
  }

  #range(from: string, to: string, at: number): number {
    if (!/^\d\d$/.test(from + to) || from > to) this.#fail("a range in a set goes from a digit up to a digit, as in [0-9]", at);
    let mask = 0;
    for (let digit = Number(from); digit <= Number(to); digit++) mask |= 1 << digit;
    return mask;
  }

  #literal(char: string, at: number): number {
    const symbol = ALPHABET.indexOf(char);
    if (symbol < 0) this.#fail(`"${char}" never occurs in an AS path: digits, spaces, {} and () do`, at);
    return 1 << symbol;
  }

  #peek(): string {
    return this.#pattern[this.#at] ?? "";
  }

  #take(char: string): boolean {
    if (this.#pattern[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #fail(reason: string, at: number = this.#at): never {
    throw new AsPathRegexError(this.#pattern, at, reason);
  }
}

type State =
  | { kind: "symbols"; mask: number; next: number }
  | { kind: "start" | "end"; next: number }
  | { kind: "split"; next: number[] }
  | { kind: "match" };

interface TableRow {
  /** The states of the automaton that this row stands for, ends of text not yet decided. */
  states: number[];
  next: Int16Array;
  matched: boolean;
  matchedAtEnd: boolean;
}

class Automaton {
  readonly #states: State[] = [{ kind: "match" }];
  readonly #first: number;
  readonly #pattern: string;
  #rows: TableRow[] = [];
  #rowOf = new Map<string, number>();

  constructor(node: Node, pattern: string) {
    this.#pattern = pattern;
    this.#first = this.#build(node, 0);
    this.#begin();
  }

  test(text: string): boolean {
    let row = 0;
    for (let i = 0; i < text.length; i++) {
      if (this.#rows[row].matched) return true;
      const code = text.charCodeAt(i);
      const symbol = code < 128 ? symbolOf[code] : otherSymbol;
      const next = this.#rows[row].next[symbol];
      row = next >= 0 ? next : this.#step(row, symbol);
    }
    return this.#rows[row].matched || this.#rows[row].matchedAtEnd;
  }

  /** Appends the states of `node`, leading on to state `next`; returns the state to enter by. */
  #build(node: Node, next: number): number {
    switch (node.kind) {
      case "symbols":
        return this.#add({ kind: "symbols", mask: node.mask, next });
      case "start":
      case "end":
        return this.#add({ kind: node.kind, next });
      case "sequence":
        return node.parts.reduceRight((after, part) => this.#build(part, after), next);
      case "either":
        return this.#add({ kind: "split", next: node.parts.map(part => this.#build(part, next)) });
      case "repeat":
        return this.#buildRepeat(node.part, node.min, node.max, next);
    }
  }

  #buildRepeat(part: Node, min: number, max: number, next: number): number {
    let entry = next;
    if (max === Number.POSITIVE_INFINITY) {
      const split: State = { kind: "split", next: [next] };
      entry = this.#add(split);
      split.next.push(this.#build(part, entry));
    } else {
      for (let i = min; i < max; i++) entry = this.#add({ kind: "split", next: [next, this.#build(part, entry)] });
    }
    for (let i = 0; i < min; i++) entry = this.#build(part, entry);
    return entry;
  }

  #add(state: State): number {
    if (this.#states.length >= MAX_STATES) {
      throw new AsPathRegexError(this.#pattern, 0, `too large once its counted repetitions are written out (${MAX_STATES} states)`);
    }
    return this.#states.push(state) - 1;
  }

  /** Row 0 is the start of the text. */
  #begin(): void {
    this.#rows = [];
    this.#rowOf = new Map();
    this.#row(this.#closure([this.#first], true, false), true);
  }

  #step(from: number, symbol: number): number {
    const row = this.#rows[from];
    const entered = [this.#first];
    for (const index of row.states) {
      const state = this.#states[index];
      if (state.kind === "symbols" && (state.mask >> symbol) & 1) entered.push(state.next);
    }
    const states = this.#closure(entered, false, false);
    if (this.#rows.length >= MAX_TABLE) {
      this.#begin();
      return this.#row(states, false);
    }
    row.next[symbol] = this.#row(states, false);
    return row.next[symbol];
  }

  #row(states: number[], atStart: boolean): number {
    const key = `${atStart ? "^" : ""}${states.join()}`;
    const known = this.#rowOf.get(key);
    if (known !== undefined) return known;
    const index = this.#rows.length;
    this.#rows.push({
      states,
      next: new Int16Array(ALPHABET.length + 1).fill(-1),
      matched: states[0] === 0,
      matchedAtEnd: this.#closure(states, atStart, true)[0] === 0,
    });
    this.#rowOf.set(key, index);
    return index;
  }

  /** All states reached without a character, ascending: state 0 (match) stands first. */
  #closure(entered: readonly number[], atStart: boolean, atEnd: boolean): number[] {
    const seen = new Set<number>();
    const open = [...entered];
    while (open.length > 0) {
      const index = open.pop()!;
      if (seen.has(index)) continue;
      seen.add(index);
      const state = this.#states[index];
      if (state.kind === "split") open.push(...state.next);
      else if ((state.kind === "start" && atStart) || (state.kind === "end" && atEnd)) open.push(state.next);
    }
    return [...seen].sort((a, b) => a - b);
  }
}
