/** Why a path takes no part in the decision; bits of `pathFlags`. */
export const Rejected = {
  Policy: 1,
  AsLoop: 2,
  ReflectionLoop: 4,
  Protected: 8,
  TooLarge: 16,
  AsSet: 32,
  FirstAs: 64,
  EmptyPath: 128,
  Origin: 256,
  Originator: 512,
} as const;
export type RejectedReason = keyof typeof Rejected;
