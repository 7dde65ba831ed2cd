INSERT INTO t VALUES (1, _gb18030 x'81308130'), (2, _gb18030 x'BF5C'), (3, '日本😀'), (4, 'a''\\');
UPDATE t SET a = CONCAT(a, a);
