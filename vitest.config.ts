// How tests run: only test/**/*.test.ts, no globals, a process of its own for each file.

import { defineConfig, type ViteUserConfig } from "vitest/config";

const config: ViteUserConfig = defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    // More would only fight over the cores of a small machine and make tests that wait for real time flaky.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    coverage: { provider: "v8", include: ["src/**"] },
  },
});

export default config;
