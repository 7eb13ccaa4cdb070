/** What is due at a time, the earliest first: a binary heap. */
export class DueQueue<Item extends { readonly due: number }> {
  readonly #items: Item[] = [];

  get first(): Item | undefined {
    return this.#items[0];
  }

  /** `due` must stay as it is until it is taken. */
  push(item: Item): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent].due <= item.due) break;
      items[at] = items[parent];
      at = parent;
    }
    items[at] = item;
  }

  takeFirst(): void {
    const items = this.#items;
    const last = items.pop();
    if (!last || items.length === 0) return;
    let at = 0;
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && items[child + 1].due < items[child].due) child++;
      if (items[child].due >= last.due) break;
      items[at] = items[child];
      at = child;
    }
    items[at] = last;
  }
}
