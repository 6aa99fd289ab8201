// The official OpenAI client for JavaScript, and the AI SDK.
import assert from "node:assert";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const baseURL = process.env.CLIENTS_BASE_URL, model = process.env.CLIENTS_MODEL, apiKey = "none";
const City = z.object({ name: z.string().max(20), size: z.enum(["small", "large"]) });
const messages = [{ role: "user", content: "Name a city" }];
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const compatible = createOpenAICompatible({ name: "maskloop", baseURL, apiKey, supportsStructuredOutputs: true });
const openai = createOpenAI({ baseURL, apiKey });
const small = { maxOutputTokens: 200, maxRetries: 0, temperature: 0 };

const usages = {
  "openai (npm), chat": async () => assert((await client.chat.completions.create({ model, messages, max_completion_tokens: 10 })).choices[0].message.content),
  "openai (npm), stream": async () => {
    let text = "";
    for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, max_completion_tokens: 10 })) text += chunk.choices[0]?.delta?.content ?? "";
    assert(text);
  },
  "openai (npm), parse with zod": async () => assert(City.parse((await client.chat.completions.parse({ model, messages, response_format: zodResponseFormat(City, "city"), max_completion_tokens: 100 })).choices[0].message.parsed)),
  "openai (npm), responses": async () => assert((await client.responses.create({ model, input: "Name a city", max_output_tokens: 20 })).output_text),
  "AI SDK, generateText": async () => assert((await generateText({ model: compatible(model), prompt: "Name a city", ...small, maxOutputTokens: 10 })).text),
  "AI SDK, streamText": async () => {
    let text = "";
    for await (const part of streamText({ model: compatible(model), prompt: "Name a city", ...small, maxOutputTokens: 10 }).textStream) text += part;
    assert(text);
  },
  "AI SDK, generateObject": async () => City.parse((await generateObject({ model: compatible(model), schema: City, prompt: "Name a city", ...small })).object),
  "AI SDK, streamObject": async () => {
    const made = streamObject({ model: compatible(model), schema: City, prompt: "Name a city", ...small });
    let last;
    for await (const part of made.partialObjectStream) last = part;
    assert.deepEqual(City.parse(last), await made.object);
  },
  "AI SDK, Output.object": async () => City.parse((await generateText({ model: compatible(model), output: Output.object({ schema: City }), prompt: "Name a city", ...small })).output),
  "AI SDK, Output.object beside a tool": async () => {
    const tools = { population: tool({ description: "How many people", inputSchema: z.object({ city: z.enum(["Rome", "Paris"]) }), execute: async () => 3 }) };
    const made = await generateText({ model: compatible(model), tools, stopWhen: stepCountIs(4), output: Output.object({ schema: City }), prompt: "Name a city", ...small });
    if (made.steps.length < 4) City.parse(made.output); // a tiny model may call the tool for ever
  },
  "AI SDK, tools": async () => {
    const tools = { population: tool({ description: "How many people", inputSchema: z.object({ city: z.enum(["Rome", "Paris"]) }) }) };
    const made = await generateText({ model: compatible(model), tools, toolChoice: "required", prompt: "How large is Rome?", ...small });
    assert(["Rome", "Paris"].includes(made.toolCalls[0].input.city));
  },
  "AI SDK, openai responses": async () => City.parse((await generateObject({ model: openai(model), schema: City, prompt: "Name a city", ...small, temperature: undefined })).object),
};

for (const [usage, run] of Object.entries(usages)) {
  let outcome = { ok: true, why: "" };
  try { await run(); } catch (error) { outcome = { ok: false, why: `${error.name}: ${error.message}`.slice(0, 600) }; }
  console.log(JSON.stringify({ usage, ...outcome }));
}
process.exit(0);
