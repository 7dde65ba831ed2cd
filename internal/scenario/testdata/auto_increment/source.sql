INSERT INTO t (v) VALUES ('a'), ('b');
INSERT INTO t VALUES (-5, 'neg'), (100, 'gap');
INSERT INTO t (v) VALUES ('c');
SET auto_increment_increment = 10, auto_increment_offset = 7;
INSERT INTO t (v) VALUES ('d'), ('e');
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
INSERT INTO t VALUES (0, 'zero');
UPDATE t SET id = 500 WHERE v = 'a';
DELETE FROM t WHERE v = 'gap';
