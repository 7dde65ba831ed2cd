INSERT INTO t VALUES (38, STRING_TO_VECTOR('[0]'), 'x', 'y', 'ü', 'a'), (40, NULL, 'x', 'y', 'ü', 'b');
UPDATE t SET c = 'zz', d = 'ß';
INSERT INTO u VALUES (1, 'ä', STRING_TO_VECTOR('[1]'), x'0100', 'ä');
