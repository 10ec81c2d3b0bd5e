import assert from "node:assert/strict";
import { test } from "node:test";
import pg from "pg";
import { lease } from "./devenv.js";

for (const item of [1, 2, 3]) {
  test(`each test starts from the seeded rows (${item})`, async () => {
    const { variables, end } = await lease();
    const client = new pg.Client(variables.DATABASE_URL);
    await client.connect();
    try {
      await client.query("DELETE FROM item WHERE id = $1", [item]);
      const { rows } = await client.query("SELECT count(*)::int AS left FROM item");
      assert.equal(rows[0].left, 2);
    } finally {
      await client.end();
      await end();
    }
  });
}
