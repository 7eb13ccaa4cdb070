/** What is wrong with a topology file. */
export interface TopologyProblem {
  /** Where in the document: "links[0].members.node9". */
  path: string;
  what: string;
  remedy: string;
}
