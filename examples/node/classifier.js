// A client of voc_cls.v1.Classifier from the proto file: nothing is generated.
//
// Environment: VOC_CA, a PEM file of who may sign the server's certificate, asks for TLS; VOC_CERT and VOC_KEY are shown
// to servers that want a client certificate; VOC_TOKEN says who asks.
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const PROTO = fileURLToPath(new URL('../../proto/voc_cls/v1/classifier.proto', import.meta.url));
const definition = protoLoader.loadSync(PROTO, { keepCase: true, longs: String, defaults: true, oneofs: true });
const { Classifier } = grpc.loadPackageDefinition(definition).voc_cls.v1;

const serviceConfig = {
  methodConfig: [{
    name: [{ service: 'voc_cls.v1.Classifier' }],
    retryPolicy: { // the server says with grpc-retry-pushback-ms when to try again; grpc-js heeds it
      maxAttempts: 5, initialBackoff: '0.2s', maxBackoff: '2s', backoffMultiplier: 2,
      retryableStatusCodes: ['UNAVAILABLE', 'RESOURCE_EXHAUSTED'],
    },
  }],
};

const options = {
  'grpc.service_config': JSON.stringify(serviceConfig),
  'grpc.max_send_message_length': 64 * 2 ** 20, // gRPC's own limit for answers is 4 MiB, one photograph
  'grpc.max_receive_message_length': 64 * 2 ** 20,
};

export function connect(address, environment = process.env) {
  const { VOC_CA, VOC_CERT, VOC_KEY } = environment;
  const read = (file) => (file ? fs.readFileSync(file) : null);
  const credentials = VOC_CA
    ? grpc.credentials.createSsl(read(VOC_CA), read(VOC_KEY), read(VOC_CERT))
    : grpc.credentials.createInsecure();
  return new Classifier(address, credentials, options);
}

export function metadata(environment = process.env) {
  const pairs = new grpc.Metadata();
  if (environment.VOC_TOKEN) pairs.set('authorization', `Bearer ${environment.VOC_TOKEN}`);
  return pairs;
}

export function described(labels) {
  return labels.map(({ label, probability }) => `${label} ${Math.round(100 * probability)}%`).join(', ') || 'nothing';
}
