// A fault that is told to the person at the page, as a sentence with the cure.

export class Problem extends Error {}
