/** Every generated file and its text, by path from the root of the repository. Pure: the same tables, the same bytes. */
import type { Role } from "../subjects.ts"
import { asyncapi } from "./asyncapi.ts"
import { type Json, jsonSchema, twin } from "./json-schema.ts"
import { documents, messages } from "./messages.ts"
import { msgpack } from "./msgpack.ts"
import { permissionsFor } from "./permissions.ts"
import { subjectsTable, verdictsTable, withVerdicts } from "./tables.ts"
import { verdictsHeader } from "./verdicts-header.ts"

/** Everything in this directory is generated; what is there besides is removed. */
export const DIRECTORY = "schemas/generated"

const json = (value: Json): string => `${JSON.stringify(value, null, 2)}\n`

/** Hex in lines of 32 bytes. */
const hex = (bytes: Uint8Array): string =>
  `${Buffer.from(bytes)
    .toString("hex")
    .replace(/.{64}(?=.)/g, "$&\n")}\n`

const roles: ReadonlyArray<Role> = ["attester", "verifier", "releaser", "loader", "operator", "auditor"]

/** With INSTANCE and DOMAIN where an identity's own names go. */
const permissions = (): Json =>
  Object.fromEntries(
    roles.map((role) => {
      const { publish, subscribe } = permissionsFor({ role, instance: "INSTANCE", domain: "DOMAIN" })
      return [role, { publish, subscribe }]
    }),
  )

/** @param readme the README as it is: one table of it is generated */
export const outputs = (readme: string): ReadonlyMap<string, string> => {
  const files = new Map<string, string>([
    ["README.md", withVerdicts(readme)],
    ["bpf/verdicts.h", verdictsHeader()],
    [`${DIRECTORY}/asyncapi.json`, json(asyncapi())],
    [`${DIRECTORY}/permissions.json`, json(permissions())],
    [`${DIRECTORY}/subjects.md`, subjectsTable()],
    [`${DIRECTORY}/verdicts.md`, verdictsTable()],
  ])
  for (const [name, { schema }] of Object.entries({ ...messages, ...documents })) {
    const head = { $schema: "https://json-schema.org/draft/2020-12/schema", title: name }
    files.set(`${DIRECTORY}/${name}.schema.json`, json({ ...head, ...jsonSchema(schema) }))
  }
  for (const [name, { example }] of Object.entries(messages)) {
    files.set(`${DIRECTORY}/golden/${name}.msgpack.hex`, hex(msgpack(example)))
    files.set(`${DIRECTORY}/golden/${name}.json`, json(twin(example)))
  }
  return files
}
