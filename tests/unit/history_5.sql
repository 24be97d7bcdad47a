BEGIN TRANSACTION;
CREATE TABLE bucket (
    period INTEGER,
    queue INTEGER,
    start INTEGER,
    published INTEGER DEFAULT 0, delivered INTEGER DEFAULT 0, acked INTEGER DEFAULT 0, redelivered INTEGER DEFAULT 0, expired INTEGER DEFAULT 0, rejected INTEGER DEFAULT 0, other INTEGER DEFAULT 0, ready_high INTEGER DEFAULT 0, unacked_high INTEGER DEFAULT 0, returned INTEGER DEFAULT 0, dropped INTEGER DEFAULT 0,
    PRIMARY KEY (period, start, queue)
) WITHOUT ROWID;
INSERT INTO "bucket" VALUES(0,0,1795521600,0,0,0,0,2,0,0,0,0,0,0);
INSERT INTO "bucket" VALUES(0,1,1795521600,0,0,0,0,2,0,0,0,0,0,0);
INSERT INTO "bucket" VALUES(1,0,1795478400,0,0,0,0,2,0,0,0,0,0,0);
INSERT INTO "bucket" VALUES(1,1,1795478400,0,0,0,0,2,0,0,0,0,0,0);
INSERT INTO "bucket" VALUES(2,0,1793491200,0,0,0,0,2,0,0,0,0,0,0);
INSERT INTO "bucket" VALUES(2,1,1793491200,0,0,0,0,2,0,0,0,0,0,0);
CREATE TABLE client (
    name TEXT,
    user TEXT,
    does TEXT DEFAULT '',
    state TEXT,
    since REAL,
    first_seen REAL,
    last_seen REAL,
    interruptions INTEGER DEFAULT 0,
    last_interruption REAL,
    back REAL,
    published INTEGER DEFAULT 0,
    published_at REAL,
    delivered INTEGER DEFAULT 0,
    delivered_at REAL,
    connections TEXT DEFAULT '{}',
    PRIMARY KEY (name, user)
) WITHOUT ROWID;
CREATE TABLE dead (
    id INTEGER PRIMARY KEY,
    stored REAL,
    at REAL,
    queue TEXT,
    reason TEXT,
    exchange TEXT,
    routing_key TEXT,
    sender TEXT,
    message_id TEXT,
    size INTEGER,
    properties TEXT,
    requeued REAL,
    body BLOB,
    encoded BLOB,
    digest BLOB,
    session TEXT,
    delivered REAL,
    settled INTEGER DEFAULT 0
);
INSERT INTO "dead" VALUES(1,1795521600.0,1795521600.0,'q','expired','','q','alice','alice-1',2,'{"headers": {}}',1795521600.0,X'FF00',X'0000',X'E1C76FEB015788D8E24F0A78DB0B1C09758A6A7656A3B1B4A4855C1F59828984','first',1795521600.0,1);
INSERT INTO "dead" VALUES(2,1795521600.0,1795521600.0,'q','expired','','q','alice','alice-2',2,'{"headers": {}}',NULL,X'FF00',X'0000',X'851BB5039CE5045E500909F5653E7F25259D2D6520F375A69F34D5B239DB1B7D','first',1795521600.0,0);
CREATE TABLE fact (
    name TEXT PRIMARY KEY,
    value TEXT
) WITHOUT ROWID;
CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    name TEXT UNIQUE NOT NULL,
    type TEXT,
    state TEXT DEFAULT 'gone',
    seen REAL,
    ready INTEGER DEFAULT 0,
    unacked INTEGER DEFAULT 0,
    consumers INTEGER DEFAULT 0,
    oldest_since REAL,
    no_consumer_since REAL,
    publish_rate REAL DEFAULT 0, deliver_rate REAL DEFAULT 0, ack_rate REAL DEFAULT 0,
    published INTEGER DEFAULT 0, raw_published INTEGER DEFAULT 0, delivered INTEGER DEFAULT 0, raw_delivered INTEGER DEFAULT 0, acked INTEGER DEFAULT 0, raw_acked INTEGER DEFAULT 0, redelivered INTEGER DEFAULT 0, raw_redelivered INTEGER DEFAULT 0
);
INSERT INTO "queue" VALUES(1,'q',NULL,'gone',NULL,0,0,0,NULL,NULL,0.0,0.0,0.0,0,0,0,0,0,0,0,0);
CREATE TABLE sample (
    queue INTEGER,
    at REAL,
    ready INTEGER,
    unacked INTEGER,
    published INTEGER,
    delivered INTEGER,
    acked INTEGER,
    PRIMARY KEY (queue, at)
) WITHOUT ROWID;
CREATE TABLE tally (
    queue TEXT,
    reason TEXT,
    count INTEGER,
    waiting INTEGER,
    ever INTEGER,
    PRIMARY KEY (queue, reason)
) WITHOUT ROWID;
INSERT INTO "tally" VALUES('q','expired',2,1,2);
CREATE INDEX queue_there ON queue (name) WHERE state <> 'gone';
CREATE INDEX dead_stored ON dead (stored, requeued, queue, reason);
CREATE INDEX dead_queue ON dead (queue, id);
CREATE INDEX dead_requeued ON dead (requeued, id);
CREATE INDEX dead_unsettled ON dead (digest) WHERE NOT settled;
CREATE TRIGGER dead_was_inserted AFTER INSERT ON dead BEGIN
    INSERT INTO tally VALUES (new.queue, new.reason, 1, 1, 1)
    ON CONFLICT (queue, reason) DO UPDATE
    SET count = count + 1, waiting = waiting + 1, ever = ever + 1;
END;
CREATE TRIGGER dead_was_requeued AFTER UPDATE OF requeued ON dead
WHEN old.requeued IS NULL BEGIN
    UPDATE tally SET waiting = waiting - 1
    WHERE queue = new.queue AND reason = new.reason;
END;
CREATE TRIGGER dead_was_deleted AFTER DELETE ON dead BEGIN
    UPDATE tally
    SET count = count - 1, waiting = waiting - (old.requeued IS NULL)
    WHERE queue = old.queue AND reason = old.reason;
END;
CREATE INDEX client_connected ON client (name, user) WHERE connections <> '{}';
CREATE INDEX client_back ON client (back);
COMMIT;
PRAGMA user_version = 5;
