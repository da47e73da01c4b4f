// An ordinary flow of fhir-kit-client against the server at the given base URL; answers with what it saw, as JSON.
import { Client } from "fhir-kit-client";

const client = new Client({ baseUrl: process.argv[2] });
const observation = (value) => ({
  resourceType: "Observation",
  status: "final",
  code: { coding: [{ system: "http://loinc.org", code: "8867-4" }] },
  subject: { reference: "Patient/kit" },
  valueQuantity: { value, unit: "/min", system: "http://unitsofmeasure.org", code: "/min" },
});
const seen = {};

seen.version = (await client.capabilityStatement()).fhirVersion;
await client.update({ resourceType: "Patient", id: "kit", body: { resourceType: "Patient", id: "kit", active: true } });
const created = await client.create({ resourceType: "Observation", body: observation(1) });
seen.read = (await client.read({ resourceType: "Observation", id: created.id })).valueQuantity.value;
await client.update({ resourceType: "Observation", id: created.id, body: { ...observation(2), id: created.id } });
seen.versions = (await client.history({ resourceType: "Observation", id: created.id })).entry.length;
seen.vread = (await client.vread({ resourceType: "Observation", id: created.id, version: "1" })).valueQuantity.value;

const entry = [3, 4, 5].map((value) => ({
  resource: observation(value),
  request: { method: "POST", url: "Observation" },
}));
const answer = await client.transaction({ body: { resourceType: "Bundle", type: "transaction", entry } });
seen.transaction = answer.entry.map((it) => it.response.status);

seen.paged = [];
let page = await client.search({ resourceType: "Observation", searchParams: { subject: "Patient/kit", _count: 2 } });
while (page) {
  seen.paged.push((page.entry ?? []).length);
  page = await client.nextPage({ bundle: page });
}

const checked = await client.operation({
  name: "validate",
  resourceType: "Observation",
  input: { ...observation(6), status: "banana" },
});
seen.validated = checked.issue.map((it) => it.expression[0]);

await client.delete({ resourceType: "Observation", id: created.id });
seen.deleted = await client
  .read({ resourceType: "Observation", id: created.id })
  .then(() => 200)
  .catch((failure) => failure.response?.status ?? String(failure));
process.stdout.write(JSON.stringify(seen));
