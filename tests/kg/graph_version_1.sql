-- A graph of version 1, as qoetwin 0.1.0 wrote it: its tables, then one of everything.

PRAGMA journal_mode = WAL;
CREATE TABLE provenance (id INTEGER PRIMARY KEY, reference_name TEXT NOT NULL, reference_org TEXT NOT NULL, reference_url_data TEXT, reference_time_fetch INTEGER, reference_time_modification INTEGER, synthetic INTEGER NOT NULL);
CREATE TABLE "AtlasProbe" ("id" INTEGER NOT NULL PRIMARY KEY, "name" TEXT, "status" TEXT, "is_anchor" INTEGER, "synthetic" INTEGER);
CREATE TABLE "AtlasMeasurement" ("id" INTEGER NOT NULL PRIMARY KEY, "type" TEXT, "af" INTEGER, "synthetic" INTEGER);
CREATE TABLE "IP" ("ip" TEXT NOT NULL PRIMARY KEY, "af" INTEGER);
CREATE TABLE "Prefix" ("prefix" TEXT NOT NULL PRIMARY KEY, "af" INTEGER);
CREATE TABLE "AS" ("asn" INTEGER NOT NULL PRIMARY KEY);
CREATE TABLE "Country" ("country_code" TEXT NOT NULL PRIMARY KEY);
CREATE TABLE "Point" ("position" TEXT NOT NULL PRIMARY KEY, "latitude" REAL, "longitude" REAL);
CREATE TABLE "HostName" ("name" TEXT NOT NULL PRIMARY KEY);
CREATE TABLE "Application" ("name" TEXT NOT NULL PRIMARY KEY);
CREATE TABLE "IP ASSIGNED AtlasProbe" ("source" TEXT NOT NULL, "target" INTEGER NOT NULL, provenance INTEGER NOT NULL REFERENCES provenance (id), FOREIGN KEY (source) REFERENCES "IP", FOREIGN KEY (target) REFERENCES "AtlasProbe", PRIMARY KEY ("source", "target")) WITHOUT ROWID;
CREATE INDEX "IP ASSIGNED AtlasProbe back" ON "IP ASSIGNED AtlasProbe" (target, source);
CREATE TABLE "AtlasProbe LOCATED_IN AS" ("source" INTEGER NOT NULL, "target" INTEGER NOT NULL, "af" INTEGER NOT NULL, provenance INTEGER NOT NULL REFERENCES provenance (id), FOREIGN KEY (source) REFERENCES "AtlasProbe", FOREIGN KEY (target) REFERENCES "AS", PRIMARY KEY ("source", "af")) WITHOUT ROWID;
CREATE INDEX "AtlasProbe LOCATED_IN AS back" ON "AtlasProbe LOCATED_IN AS" (target, source);
CREATE TABLE "AtlasProbe LOCATED_IN Point" ("source" INTEGER NOT NULL, "target" TEXT NOT NULL, provenance INTEGER NOT NULL REFERENCES provenance (id), FOREIGN KEY (source) REFERENCES "AtlasProbe", FOREIGN KEY (target) REFERENCES "Point", PRIMARY KEY ("source")) WITHOUT ROWID;
CREATE INDEX "AtlasProbe LOCATED_IN Point back" ON "AtlasProbe LOCATED_IN Point" (target, source);
CREATE TABLE "AtlasProbe COUNTRY Country" ("source" INTEGER NOT NULL, "target" TEXT NOT NULL, provenance INTEGER NOT NULL REFERENCES provenance (id), FOREIGN KEY (source) REFERENCES "AtlasProbe", FOREIGN KEY (target) REFERENCES "Country", PRIMARY KEY ("source")) WITHOUT ROWID;
CREATE INDEX "AtlasProbe COUNTRY Country back" ON "AtlasProbe COUNTRY Country" (target, source);
CREATE TABLE "AtlasProbe PART_OF AtlasMeasurement" ("source" INTEGER NOT NULL, "target" INTEGER NOT NULL, provenance INTEGER NOT NULL REFERENCES provenance (id), FOREIGN KEY (source) REFERENCES "AtlasProbe", FOREIGN KEY (target) REFERENCES "AtlasMeasurement", PRIMARY KEY ("source", "target")) WITHOUT ROWID;
CREATE INDEX "AtlasProbe PART_OF AtlasMeasurement back" ON "AtlasProbe PART_OF AtlasMeasurement" (target, source);
CREATE TABLE "AtlasMeasurement TARGET IP" ("source" INTEGER NOT NULL, "target" TEXT NOT NULL, provenance INTEGER NOT NULL REFERENCES provenance (id), FOREIGN KEY (source) REFERENCES "AtlasMeasurement", FOREIGN KEY (target) REFERENCES "IP", PRIMARY KEY ("source", "target")) WITHOUT ROWID;
CREATE INDEX "AtlasMeasurement TARGET IP back" ON "AtlasMeasurement TARGET IP" (target, source);
CREATE TABLE "AtlasMeasurement TARGET HostName" ("source" INTEGER NOT NULL, "target" TEXT NOT NULL, provenance INTEGER NOT NULL REFERENCES provenance (id), FOREIGN KEY (source) REFERENCES "AtlasMeasurement", FOREIGN KEY (target) REFERENCES "HostName", PRIMARY KEY ("source", "target")) WITHOUT ROWID;
CREATE INDEX "AtlasMeasurement TARGET HostName back" ON "AtlasMeasurement TARGET HostName" (target, source);
CREATE TABLE "IP PART_OF Prefix" ("source" TEXT NOT NULL, "target" TEXT NOT NULL, provenance INTEGER NOT NULL REFERENCES provenance (id), FOREIGN KEY (source) REFERENCES "IP", FOREIGN KEY (target) REFERENCES "Prefix", PRIMARY KEY ("source", "target")) WITHOUT ROWID;
CREATE INDEX "IP PART_OF Prefix back" ON "IP PART_OF Prefix" (target, source);
CREATE TABLE "IP NEXT_HOP IP" ("source" TEXT NOT NULL, "target" TEXT NOT NULL, "traceroutes" INTEGER, "first_seen" INTEGER, "last_seen" INTEGER, provenance INTEGER NOT NULL REFERENCES provenance (id), FOREIGN KEY (source) REFERENCES "IP", FOREIGN KEY (target) REFERENCES "IP", PRIMARY KEY ("source", "target")) WITHOUT ROWID;
CREATE INDEX "IP NEXT_HOP IP back" ON "IP NEXT_HOP IP" (target, source);
CREATE TABLE pair (id INTEGER PRIMARY KEY, probe_id INTEGER NOT NULL REFERENCES AtlasProbe (id), target TEXT NOT NULL REFERENCES IP (ip), af INTEGER NOT NULL, UNIQUE (probe_id, target, af));
CREATE TABLE path_state (window_s INTEGER NOT NULL, window_start_s INTEGER NOT NULL, pair INTEGER NOT NULL REFERENCES pair (id), "results" INTEGER, "sent" INTEGER, "received" INTEGER, "duplicates" INTEGER, "errors" INTEGER, "rtt_min_ms" REAL, "rtt_mean_ms" REAL, "rtt_median_ms" REAL, "rtt_p95_ms" REAL, "loss_ratio" REAL, "jitter_ms" REAL, "synthetic" INTEGER, provenance INTEGER NOT NULL REFERENCES provenance (id), PRIMARY KEY (window_s, window_start_s, pair)) WITHOUT ROWID;
CREATE INDEX path_state_by_pair ON path_state (pair);
CREATE TABLE path_score (window_s INTEGER NOT NULL, window_start_s INTEGER NOT NULL, pair INTEGER NOT NULL, application TEXT NOT NULL REFERENCES Application (name), origin TEXT NOT NULL, "score" REAL, "rtt_cost_points" REAL, "loss_cost_points" REAL, "jitter_cost_points" REAL, "limiting_metric" TEXT, "reason" TEXT, "profile" TEXT, PRIMARY KEY (application, window_s, window_start_s, pair, origin), FOREIGN KEY (window_s, window_start_s, pair) REFERENCES path_state ON DELETE CASCADE) WITHOUT ROWID;
CREATE INDEX path_score_by_state ON path_score (window_s, window_start_s, pair);
CREATE TRIGGER path_state_changed AFTER UPDATE ON path_state BEGIN DELETE FROM path_score WHERE window_s = new.window_s AND window_start_s = new.window_start_s AND pair = new.pair; END;
CREATE VIEW pair_place AS SELECT pair.id, pair.probe_id, pair.target, pair.af, probe_point.latitude AS probe_latitude, probe_point.longitude AS probe_longitude, probe_as.target AS probe_asn, probe_country.target AS probe_country, host.target AS target_probe_id, target_point.latitude AS target_latitude, target_point.longitude AS target_longitude, target_as.target AS target_asn, target_country.target AS target_country FROM pair LEFT JOIN "AtlasProbe LOCATED_IN Point" probe_at ON probe_at.source = pair.probe_id LEFT JOIN Point probe_point ON probe_point.position = probe_at.target LEFT JOIN "AtlasProbe LOCATED_IN AS" probe_as ON probe_as.source = pair.probe_id AND probe_as.af = pair.af LEFT JOIN "AtlasProbe COUNTRY Country" probe_country ON probe_country.source = pair.probe_id LEFT JOIN (SELECT source, min(target) AS target FROM "IP ASSIGNED AtlasProbe" GROUP BY source) host ON host.source = pair.target LEFT JOIN "AtlasProbe LOCATED_IN Point" target_at ON target_at.source = host.target LEFT JOIN Point target_point ON target_point.position = target_at.target LEFT JOIN "AtlasProbe LOCATED_IN AS" target_as ON target_as.source = host.target AND target_as.af = pair.af LEFT JOIN "AtlasProbe COUNTRY Country" target_country ON target_country.source = host.target;
PRAGMA user_version = 1;

INSERT INTO provenance VALUES
    (1, 'probes.json', 'RIPE NCC', 'probes.json', 1557651600000000, NULL, 0),
    (2, 'atlas.ping', 'RIPE NCC', NULL, 1557651600000001, NULL, 0),
    (3, 'atlas.ping', 'qoetwin testbed', NULL, NULL, NULL, 1);
INSERT INTO AtlasProbe VALUES (1, 'O''Hara "home"', 'Connected', 0, 0), (2, NULL, NULL, 1, 0);
INSERT INTO AtlasMeasurement VALUES (1001, 'ping', 4, 0), (5001, 'traceroute', 4, 0);
INSERT INTO IP VALUES ('192.0.2.1', 4), ('2001:db8::1', 6), ('198.51.100.1', NULL);
INSERT INTO Prefix VALUES ('192.0.2.0/24', 4);
INSERT INTO "AS" VALUES (64500), (64501);
INSERT INTO Country VALUES ('LB'), ('NL');
INSERT INTO Point VALUES ('POINT(35.5 33.9)', 33.9, 35.5), ('POINT(4.9 52.4)', 52.4, 4.9);
INSERT INTO HostName VALUES ('anchor.example');
INSERT INTO Application VALUES ('voip'), ('web');
INSERT INTO "IP ASSIGNED AtlasProbe" VALUES ('192.0.2.1', 2, 1), ('2001:db8::1', 2, 1);
INSERT INTO "AtlasProbe LOCATED_IN AS" VALUES (1, 64500, 4, 1), (2, 64501, 4, 1), (2, 64501, 6, 1);
INSERT INTO "AtlasProbe LOCATED_IN Point" VALUES (1, 'POINT(35.5 33.9)', 1), (2, 'POINT(4.9 52.4)', 1);
INSERT INTO "AtlasProbe COUNTRY Country" VALUES (1, 'LB', 1), (2, 'NL', 1);
INSERT INTO "AtlasProbe PART_OF AtlasMeasurement" VALUES (1, 1001, 2), (1, 5001, 2);
INSERT INTO "AtlasMeasurement TARGET IP" VALUES (1001, '192.0.2.1', 2);
INSERT INTO "AtlasMeasurement TARGET HostName" VALUES (1001, 'anchor.example', 2);
INSERT INTO "IP PART_OF Prefix" VALUES ('192.0.2.1', '192.0.2.0/24', 1);
INSERT INTO "IP NEXT_HOP IP" VALUES ('198.51.100.1', '192.0.2.1', 7, 1557651600000000, 1557655200000000, 2);
INSERT INTO pair VALUES (1, 1, '192.0.2.1', 4), (7, 1, '2001:db8::1', 6);
-- two windows of three hours, one of an hour, from 2019-05-12T09:00Z; a state with nothing answered has no times
INSERT INTO path_state VALUES
    (10800, 1557651600, 1, 1, 3, 2, 0, 0, 10.0, 11.0, 11.0, NULL, 0.3333333333333333, 0.5, 0, 2),
    (10800, 1557662400, 1, 1, 3, 0, 0, 1, NULL, NULL, NULL, NULL, 1.0, NULL, 0, 2),
    (3600, 1557651600, 1, 1, 3, 2, 0, 0, 10.0, 11.0, 11.0, NULL, 0.3333333333333333, 0.5, 0, 2),
    (10800, 1557651600, 7, 1, 3, 3, 0, 0, 20.0, 21.0, 21.0, NULL, 0.0, 0.25, 1, 3);
INSERT INTO path_score VALUES
    (10800, 1557651600, 1, 'voip', 'measured', 80.0, 1.0, 19.0, 0.0, 'loss', NULL, 'table-i v1'),
    (10800, 1557651600, 1, 'web', 'measured', 90.0, 1.0, 9.0, 0.0, 'loss', NULL, 'table-i v1'),
    (10800, 1557662400, 1, 'voip', 'measured', NULL, NULL, 19.0, NULL, NULL, 'no packet came back', 'table-i v1'),
    (10800, 1557651600, 7, 'voip', 'measured', 99.0, 1.0, 0.0, 0.0, 'rtt', NULL, 'table-i v1');
