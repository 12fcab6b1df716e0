// Reads vectors from standard input; writes whether the npm package `standardwebhooks` verifies each.
const { readFileSync } = require('node:fs');
const { Webhook } = require('standardwebhooks');

const verdicts = JSON.parse(readFileSync(0)).map(({ secrets, headers, body, now }) => {
  Date.now = () => now * 1000;
  return secrets.some((secret) => {
    try {
      new Webhook(secret).verify(body, headers);
      return true;
    } catch {
      return false;
    }
  });
});
console.log(JSON.stringify(verdicts));
