// A merchant's receiver that verifies with the npm package `standardwebhooks`, at /npm-standardwebhooks.
//   node receiver.cjs JOURNAL SECRETS   prints the port it listens on
// Both files are as receiver.py has them.
const { appendFileSync, readFileSync } = require('node:fs');
const { createServer } = require('node:http');
const { Webhook, WebhookVerificationError } = require('standardwebhooks');

const [journal, secretsFile] = process.argv.slice(2);

function verifies(secret, body, headers) {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    throw error;
  }
}

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const { url: path, headers } = request;
  const later = String(Number(headers['webhook-timestamp']) + 1);
  const tries = {
    'as it came': [body, headers],
    'changed body': [Buffer.from(body.toString().replace('{', '{ ')), headers],
    'changed id': [body, { ...headers, 'webhook-id': `${headers['webhook-id']}0` }],
    'changed timestamp': [body, { ...headers, 'webhook-timestamp': later }],
  };
  const verdicts = {};
  for (const [name, secret] of Object.entries(JSON.parse(readFileSync(secretsFile))[path])) {
    const entries = Object.entries(tries).map(([what, tried]) => [what, verifies(secret, ...tried)]);
    verdicts[name] = Object.fromEntries(entries);
  }
  appendFileSync(journal, `${JSON.stringify({ path, headers, body: body.toString('base64'), verdicts })}\n`);
  const trusted = Object.values(verdicts).some((verdict) => verdict['as it came']);
  response.writeHead(trusted ? 204 : 401).end();
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
