type Update<T> = (next: T | ((now: T) => T)) => void;
export function useState<T>(first: T | (() => T)): [T, Update<T>];
export function useEffect(effect: () => void | (() => void), inputs?: readonly unknown[]): void;
export function useLayoutEffect(effect: () => void | (() => void), inputs?: readonly unknown[]): void;
export function useMemo<T>(make: () => T, inputs?: readonly unknown[]): T;
export function useCallback<T extends Function>(call: T, inputs?: readonly unknown[]): T;
export function useErrorBoundary(caught?: (error: any) => void): [any, () => void];
export function useRef<T>(first: T): { current: T };
