// Verifies a delivery of checkoutd with Node alone.
//
//   WEBHOOK_SECRETS="whsec_… [whsec_…]" node verify.mjs ID TIMESTAMP SIGNATURE [NOW] <BODY
//
// ID, TIMESTAMP and SIGNATURE are the values of the three webhook-* headers, BODY is the raw body. NOW, in Unix
// seconds, is for tests. Prints `verified` and exits with 0, or prints why not and exits with 1.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const TOLERANCE_SECONDS = 5 * 60;

/** Not to be trusted; the message says why. */
export class Refused extends Error {}

/** Throws Refused unless one of the secrets signed this body (a Buffer), and recently. */
export function verify(secrets, headers, body, now = Date.now() / 1000) {
  const keys = secrets.map(signingKey);
  if (keys.length === 0) throw new Refused('malformed_secret');
  const [id, timestamp, signatures] = ['id', 'timestamp', 'signature'].map((name) => headers[`webhook-${name}`]);
  if (!id || !timestamp || !signatures) throw new Refused('missing_header');
  if (!/^[0-9]{1,12}$/.test(timestamp)) throw new Refused('malformed_timestamp');
  const age = now - Number(timestamp);
  if (age > TOLERANCE_SECONDS) throw new Refused('timestamp_too_old');
  if (age < -TOLERANCE_SECONDS) throw new Refused('timestamp_too_new');
  for (const key of keys) {
    const digest = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64');
    const expected = Buffer.from(`v1,${digest}`);
    for (const signature of signatures.split(' ')) {
      const given = Buffer.from(signature);
      if (given.length === expected.length && timingSafeEqual(given, expected)) return;
    }
  }
  throw new Refused('no_matching_signature');
}

function signingKey(secret) {
  const encoded = secret.replace(/^whsec_/, '');
  const key = Buffer.from(encoded, 'base64'); // skips what is not base64, hence the way back
  if (key.length === 0 || key.toString('base64') !== encoded) throw new Refused('malformed_secret');
  return key;
}

function main([id, timestamp, signature, now]) {
  const secrets = (process.env.WEBHOOK_SECRETS ?? '').split(/\s+/).filter(Boolean);
  const headers = { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature };
  try {
    verify(secrets, headers, readFileSync(0), now === undefined ? undefined : Number(now));
    console.log('verified');
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.log(error.message);
    process.exitCode = 1;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2));
