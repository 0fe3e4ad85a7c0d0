'use strict';
// The service of the tests' application: answers which release it runs from, and reads a file of the release's tree.
const fs = require('fs');
const path = require('path');
const express = require('express');
const { formatISO } = require('date-fns');

const version = JSON.parse(fs.readFileSync(path.join(__dirname, 'version.json'), 'utf8')).version;
const started = formatISO(new Date());
const app = express();

app.get('/healthz', (request, response) => {
  response.json({ version, started, release: path.basename(fs.realpathSync(__dirname)), pid: process.pid });
});

app.get('/tree', (request, response, next) => {
  fs.readFile(path.join(__dirname, 'node_modules', 'typescript', 'package.json'), 'utf8', (error, text) => {
    if (error) {
      next(error);
      return;
    }
    response.json({ typescript: JSON.parse(text).version });
  });
});

const server = app.listen(Number(process.env.PORT || 8080), () => console.log(`version ${version} is listening`));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
