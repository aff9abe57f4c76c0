// A message centre on the `smpp` package's server: what it is asked is what that package decodes.
//
// node centre.js SMPP_PORT CONTROL_PORT MAX_BINDS [KEY CERTIFICATE]
//
// The number that a message is for says how it is answered: +1999 and a status in five digits with that status, +1998…
// not at all, +1997… by closing the connection, +1996… and +1995… by ESME_RTHROTTLED the first two times, of +1995… from
// the second segment on. Of what is taken a receipt follows: numbers that end with 05 are undeliverable, with 06 unknown
// to the network, with 07 expired; the rest is delivered. Ids are hexadecimal in the answer and decimal in the receipt.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const smpp = require('smpp');

const [port, control, maxBinds, key, certificate] = process.argv.slice(2);
const state = { bound: 0, binds: 0, most: 0, enquires: 0, unbinds: 0, messages: [], told: [] };
const sessions = new Set();
const tries = new Map();
let id = 0x7f00;

function answer(session, pdu) {
  const to = pdu.destination_addr;
  const message = pdu.short_message;
  const udh = message.udh ? Buffer.concat(message.udh.map((part) => Buffer.from(part))).toString('hex') : '';
  const text = message.message;
  const seen = {
    from: [pdu.source_addr_ton, pdu.source_addr_npi, pdu.source_addr],
    to: [pdu.dest_addr_ton, pdu.dest_addr_npi, to],
    coding: pdu.data_coding,
    esm: pdu.esm_class,
    registered: pdu.registered_delivery,
    udh,
    text: Buffer.isBuffer(text) ? text.toString('latin1') : text,
  };
  const refuse = (status) => session.send(pdu.response({ command_status: status }));
  if (to.startsWith('1999')) return refuse(parseInt(to.slice(4, 9), 10));
  if (to.startsWith('1998')) return undefined;
  if (to.startsWith('1997')) return session.destroy();
  if (to.startsWith('1996') || (to.startsWith('1995') && udh && parseInt(udh.slice(-2), 16) > 1)) {
    const count = (tries.get(to) || 0) + 1;
    tries.set(to, count);
    if (count <= 2) return refuse(smpp.ESME_RTHROTTLED);
  }
  const own = id++;
  seen.id = own.toString(16);
  state.messages.push(seen);
  session.send(pdu.response({ message_id: own.toString(16).toUpperCase().padStart(8, '0') }));
  const kind = { '05': 'UNDELIV', '06': 'UNDELIV', '07': 'EXPIRED' }[to.slice(-2)] || 'DELIVRD';
  const wanted = pdu.registered_delivery === 1 || (pdu.registered_delivery === 2 && kind !== 'DELIVRD');
  if (wanted) receipt(session, to, own, kind);
  return undefined;
}

function receipt(session, to, own, kind) {
  const text =
    `id:${String(own).padStart(10, '0')} sub:001 dlvrd:001 submit date:2603010900 done date:2603010901 ` +
    `stat:${kind} err:000 text:`;
  const told = { source_addr_ton: 1, source_addr_npi: 1, source_addr: to, esm_class: 4, short_message: text };
  if (to.endsWith('06')) told.network_error_code = Buffer.from([3, 0, 1]);
  tell(session, told);
}

function tell(session, told) {
  session.deliver_sm(told, (resp) => {
    state.told.push(resp.command_status);
    // As centres do that are told to try again.
    if (resp.command_status === smpp.ESME_RX_T_APPN) setTimeout(() => tell(sessions.values().next().value || session, told), 300);
  });
}

function serve(session) {
  const bind = (pdu) => {
    session.pause();
    const known = { test: 'secret', other: 'secret' }[pdu.system_id];
    let status = smpp.ESME_ROK;
    if (!known) status = smpp.ESME_RINVSYSID;
    else if (known !== pdu.password) status = smpp.ESME_RINVPASWD;
    else if (state.bound >= Number(maxBinds)) status = smpp.ESME_RALYBND;
    session.send(pdu.response({ command_status: status, system_id: 'centre' }));
    session.resume();
    if (status !== smpp.ESME_ROK) return session.close();
    state.version = pdu.interface_version;
    state.bound += 1;
    state.binds += 1;
    state.most = Math.max(state.most, state.bound);
    sessions.add(session);
    return undefined;
  };
  session.on('bind_transceiver', bind);
  session.on('submit_sm', (pdu) => answer(session, pdu));
  session.on('enquire_link', (pdu) => {
    state.enquires += 1;
    session.send(pdu.response());
  });
  session.on('unbind', (pdu) => {
    state.unbinds += 1;
    session.send(pdu.response());
    session.close();
  });
  session.on('close', () => {
    if (sessions.delete(session)) state.bound -= 1;
  });
  session.on('error', () => {});
}

const tls = key ? { key: fs.readFileSync(key), cert: fs.readFileSync(certificate) } : {};
smpp.createServer(tls, serve).listen(Number(port), '127.0.0.1');

http
  .createServer((request, response) => {
    let body = '';
    request.on('data', (part) => (body += part));
    request.on('end', () => {
      const asked = body ? JSON.parse(body) : {};
      const [session] = sessions;
      if (request.url === '/text') {
        tell(session, { source_addr_ton: 1, source_addr_npi: 1, source_addr: asked.from, short_message: asked.text });
      } else if (request.url === '/drop') {
        sessions.forEach((each) => each.destroy());
      } else if (request.url === '/garbage') {
        // A deliver_sm that ends in the middle of an address.
        session.socket.write(Buffer.from('000000140000000500000000000f423f00010133', 'hex'));
      } else if (request.url === '/enquire') {
        session.enquire_link((resp) => state.told.push(resp.command_status));
      }
      response.end(JSON.stringify(state));
    });
  })
  .listen(Number(control), '127.0.0.1');
