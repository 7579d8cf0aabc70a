// Captions photographs with an exported model, greedily:
//   npm install onnxruntime-node protobufjs sharp
//   node caption.mjs model.onnx photo.jpg …
import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";
import protobuf from "protobufjs";
import sharp from "sharp";

const START = 1, END = 2;
const NEVER = [0, START, 3]; // padding, start, unknown word
const MAX_WORDS = 20;
const KERNELS = { bicubic: "cubic", bilinear: "linear" };

// onnxruntime's JavaScript does not tell the metadata of a model; these are the fields of ONNX that hold it.
const ONNX = `syntax = "proto3";
message Entry { string key = 1; string value = 2; }
message Model { repeated Entry metadataProps = 14; }`;

function describe(file) {
  const model = protobuf.parse(ONNX).root.lookupType("Model").decode(readFileSync(file));
  const entry = model.metadataProps.find(({ key }) => key === "captioner");
  if (!entry) throw new Error(`${file} is not the encoder of an exported captioner`);
  return JSON.parse(entry.value);
}

async function load(file) {
  const [encoder, step] = await Promise.all(
    [file, file.replace(/\.onnx$/, ".step.onnx")].map((name) => ort.InferenceSession.create(name)),
  );
  return { encoder, step, ...describe(file) };
}

async function pixelsOf(photograph, { size, resize, interpolation }) {
  const data = await sharp(photograph)
    .rotate() // upright
    .flatten({ background: "white" })
    .resize(size, size, { fit: resize === "crop" ? "cover" : "fill", kernel: KERNELS[interpolation] })
    .toColourspace("srgb")
    .raw()
    .toBuffer();
  return new ort.Tensor("uint8", data, [1, size, size, 3]);
}

async function caption({ encoder, step, words, inputs }, photograph) {
  const encoded = await encoder.run({ pixels: await pixelsOf(photograph, inputs[0]) });
  const recurrent = step.outputNames.filter((name) => name.startsWith("next_")).map((name) => name.slice(5));
  const state = Object.fromEntries(Object.entries(encoded).filter(([name]) => step.inputNames.includes(name)));
  for (const name of recurrent) {
    const [images, ...rest] = state[name].dims;
    state[name] = state[name].reshape([images, 1, ...rest]); // one hypothesis
  }
  const ids = [];
  let word = START, logProbability = 0;
  while (ids.length < MAX_WORDS) {
    const told = await step.run({ ...state, words: new ort.Tensor("int64", [BigInt(word)], [1, 1]) });
    for (const name of recurrent) state[name] = told[`next_${name}`];
    const values = told.log_probabilities.data;
    for (const id of NEVER) values[id] = -Infinity;
    word = values.indexOf(Math.max(...values));
    logProbability += values[word];
    if (word === END) break;
    ids.push(word);
  }
  const text = ids.map((id) => words[id]).join(" ").replace(/ (n't|'\w)/g, "$1");
  return { caption: text, log_probability: logProbability };
}

const [file, ...photographs] = process.argv.slice(2);
if (!photographs.length) {
  console.error("usage: node caption.mjs model.onnx photo.jpg …");
  process.exit(2);
}
const model = await load(file);
for (const image of photographs) {
  console.log(JSON.stringify({ image, ...(await caption(model, image)) }));
}
