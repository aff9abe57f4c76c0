#!/bin/sh
# bounce.sh MAIL: what a mail server writes when nobody is there, about a message of the outbox.
set -e
reference=$(tr -d '\r' < "$1" | sed -n '/^Message-ID:/{N;s/.*<\([^@]*\)@.*/\1/p;q;}')
recipient=$(tr -d '\r' < "$1" | sed -n 's/^To: *//p' | head -n 1)
cat <<MAIL
Return-Path: <>
From: MAILER-DAEMON@mx.example.org (Mail Delivery System)
To: bounces@example.com
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=_b"

--=_b
Content-Type: text/plain

It could not be delivered.

--=_b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org

Final-Recipient: rfc822; $recipient
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 User unknown

--=_b
Content-Type: text/rfc822-headers

Message-ID: <$reference@example.com>

--=_b--
MAIL
