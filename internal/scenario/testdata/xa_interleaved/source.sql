--! session a
XA START 'a';
INSERT INTO t VALUES (1, 'a');
XA END 'a';
XA PREPARE 'a';
--! on 9.7 maria
--! close a
--! all
--! session main
INSERT INTO t VALUES (2, 'main');
--! session b
XA START 'b', 'x';
INSERT INTO t VALUES (3, 'b');
XA END 'b', 'x';
XA PREPARE 'b', 'x';
--! on 9.7 maria
--! close b
--! all
--! session main
UPDATE t SET v = 'MAIN' WHERE id = 2;
--! sync
FLUSH BINARY LOGS;
--! on 9.7 maria
--! session main
--! all
--! stop
--! on 5.6
--! session b
--! all
XA COMMIT 'b', 'x';
--! sync
--! stop
--! on 5.6
--! session a
--! all
XA COMMIT 'a';
--! session main
UPDATE t SET v = CONCAT(v, '.');
