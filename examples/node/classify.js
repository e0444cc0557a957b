// Classifies picture files in one call, with a deadline and retries.
//
//   npm ci --prefix examples/node
//   node examples/node/classify.js 127.0.0.1:8500 a.jpg b.jpg
//   VOC_CA=ca.pem VOC_TOKEN=… node examples/node/classify.js box.example:8500 a.jpg
import fs from 'node:fs';
import { promisify } from 'node:util';
import { connect, described, metadata } from './classifier.js';

const [address, ...files] = process.argv.slice(2);
const client = connect(address);
const classify = promisify(client.Classify.bind(client));
try {
  const request = { pictures: files.map((file) => ({ content: fs.readFileSync(file) })), top_k: 3 };
  const response = await classify(request, metadata(), { deadline: Date.now() + 10_000 });
  response.classifications.forEach(({ labels, error }, index) => {
    console.log(`${files[index]}: ${error ? error.message : described(labels)}`);
  });
} catch (error) {
  console.error(`${address}: ${error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
