import { defineConfig } from "vitest/config";

// The environment comes up once, before any worker starts; each test then has a lease of its own.
export default defineConfig({ test: { globalSetup: "./setup.js", hookTimeout: 60_000 } });
