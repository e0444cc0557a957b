// Classifies any number of picture files over one stream; at most 32 are on their way at a time.
//
//   npm ci --prefix examples/node
//   node examples/node/stream.js 127.0.0.1:8500 holiday/*.jpg
import { EventEmitter, once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, described, metadata } from './classifier.js';

const WINDOW = 32;
const [address, ...files] = process.argv.slice(2);
const client = connect(address);
const call = client.ClassifyStream(metadata());
const answers = new EventEmitter();
let waiting = 0;

call.on('data', ({ id, response, error }) => {
  const failure = error ?? response.classifications[0].error; // of the request, or of its only picture
  console.log(`${files[id]}: ${failure ? failure.message : described(response.classifications[0].labels)}`);
  waiting -= 1;
  answers.emit('answer');
});
call.on('error', (error) => {
  console.error(`${address}: ${error.message}`);
  process.exit(1);
});
call.on('end', () => client.close());

for (const [id, file] of files.entries()) {
  const content = await readFile(file);
  while (waiting >= WINDOW) await once(answers, 'answer');
  waiting += 1;
  call.write({ id, request: { pictures: [{ content }], top_k: 3 } });
}
call.end();
