// The rules of HL7 AI Transparency on FHIR (hl7.fhir.uv.aitransparency, https://github.com/HL7/aitransparency-ig,
// commit 805d2a7) for the resources that this server writes, without mustSupport and without descriptions.

ValueSet: ProvenanceVS
* http://terminology.hl7.org/CodeSystem/v3-ObservationValue#AIAST

Profile: AIModelCard
Parent: DocumentReference
Id: AI-ModelCard
* type 1..1
* type = AIinputsCS#AIModelCard (exactly)
* category 1..*
* category ^slicing.discriminator.type = #value
* category ^slicing.discriminator.path = "$this"
* category ^slicing.rules = #open
* category contains AImodelCardMD 0..1 and AImodelCardCHAI 0..1
* category[AImodelCardMD] = AIinputsCS#AIModelCardMarkdownFormat
* category[AImodelCardCHAI] = AIinputsCS#AImodelCardCHAIformat
* content ^slicing.discriminator.type = #value
* content ^slicing.discriminator.path = "attachment.contentType"
* content ^slicing.rules = #open
* content contains MarkdownFormat 0..1 and CHAIformat 0..1
* content[MarkdownFormat].attachment.contentType 1..1
* content[MarkdownFormat].attachment.contentType = #text/markdown (exactly)
* content[CHAIformat].attachment.contentType 1..1
* content[CHAIformat].attachment.contentType = #application/xml (exactly)

Extension: ModelCardDescription
Id: aitransparency.modelCardDescription
* value[x] only Reference(AIModelCard)
* value[x] 1..1

Extension: AIKind
Id: aitransparency.AIKind
* value[x] only CodeableConcept
* value[x] 1..1

Profile: AIDevice
Parent: Device
Id: AI-Device
* type 1..1
* type = AIdeviceTypeCS#Artificial-Intelligence (exactly)
* extension contains AIKind named aiKind 0..* and ModelCardDescription named modelCardDescription 0..*

Extension: AIconfidence
Id: AIconfidence
* value[x] 1..1
* value[x] only decimal or Quantity or Range or CodeableConcept or string

Profile: AIProvenance
Parent: Provenance
Id: AI-Provenance
* target 1..*
* reason ^slicing.discriminator.type = #value
* reason ^slicing.discriminator.path = "$this"
* reason ^slicing.rules = #open
* reason contains AIReason 1..*
* reason[AIReason] from ProvenanceVS (required)
* agent ^slicing.discriminator.type = #value
* agent ^slicing.discriminator.path = "role"
* agent ^slicing.rules = #open
* agent contains AIagent 1..*
* agent[AIagent].who only Reference(AIDevice)
* agent[AIagent].type 1..1
* agent[AIagent].role = AIdeviceTypeCS#Artificial-Intelligence (exactly)
