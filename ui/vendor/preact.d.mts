export type Node = any;
export function h(type: any, properties?: any, ...children: any[]): Node;
export function render(node: Node, into: Element): void;
export const Fragment: any;
