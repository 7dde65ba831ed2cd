SET NAMES latin1;
INSERT INTO t VALUES (1, CONVERT(UNHEX('C3A4') USING utf8), _latin1 x'E4'), (2, _utf8 x'C3A4', UNHEX('E4'));
SET NAMES gbk;
INSERT INTO t VALUES (3, _gbk x'BF5C', 'x');
SET NAMES binary;
INSERT INTO t VALUES (4, x'C3A4', x'E4');
SET NAMES utf8;
UPDATE t SET b = 'é' WHERE a = 'ä';
