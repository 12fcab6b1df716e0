// A merchant's webhook receiver: the guide's handler, with every raw delivery written to a journal.
//   node receiver.cjs JOURNAL   prints the port it listens on
const { appendFileSync } = require('node:fs');
const { createServer } = require('node:http');
const express = require('express');

const journal = process.argv[2];
const activated = [];
const app = express();
require('./guide/handler.cjs')(app, express, (customerId) => activated.push(customerId));

const server = createServer((req, res) => {
  const chunks = [];
  // Beside the handler's own reader: a stream gives its chunks to all listeners.
  req.on('data', (chunk) => chunks.push(chunk));
  res.on('finish', () => {
    const body = Buffer.concat(chunks).toString();
    const delivery = { url: req.url, headers: req.headers, body, answer: res.statusCode, activated };
    appendFileSync(journal, `${JSON.stringify(delivery)}\n`);
  });
  app(req, res);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
