import pg from "pg";
import { createClient } from "redis";
import { expect, test as base } from "vitest";
import { lease } from "./devenv.js";

// Fixtures: what a test does not name is not made.
const test = base.extend({
  variables: async ({}, use) => {
    const { variables, end } = await lease();
    await use(variables);
    await end();
  },
  database: async ({ variables }, use) => {
    const client = new pg.Client(variables.DATABASE_URL);
    await client.connect();
    await use(client);
    await client.end();
  },
  redis: async ({ variables }, use) => {
    const client = await createClient({ url: variables.REDIS_URL }).connect();
    await use(client);
    await client.close();
  },
});

test.concurrent.for([1, 2, 3])("each test starts from the seeded rows (%i)", async (item, { database }) => {
  await database.query("DELETE FROM item WHERE id = $1", [item]);
  const { rows } = await database.query("SELECT count(*)::int AS left FROM item");
  expect(rows[0].left).toBe(2);
});

test.concurrent.for([1, 2])("each test has a Redis of its own (%i)", async (number, { redis }) => {
  expect(await redis.get("key")).toBeNull();
  await redis.set("key", number);
});
