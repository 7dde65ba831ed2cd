//go:build unix

package main

// tables are the tables of the shop, parents first. They hold what real shops
// hold: exact decimals, microseconds, JSON, enumerations and sets, text beyond
// ASCII, bytes, unique keys, and foreign keys, one of which deletes by itself.
//
// In audit the row of each kind of transaction is counted up by that very
// transaction: n = n + 1. A transaction that came twice, or not at all, would
// show there.
var tables = []struct{ name, definition string }{
	{"customers", `
		id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		email VARCHAR(190) NOT NULL,
		name VARCHAR(100) NOT NULL,
		born DATE NULL,
		tier ENUM('basic','silver','gold') NOT NULL DEFAULT 'basic',
		preferences JSON NULL,
		spent DECIMAL(14,2) NOT NULL DEFAULT 0,
		created DATETIME(6) NOT NULL,
		seen TIMESTAMP(3) NULL,
		UNIQUE KEY (email)`},
	{"addresses", `
		id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		customer_id BIGINT UNSIGNED NOT NULL,
		uses SET('billing','shipping') NOT NULL,
		street VARCHAR(120) NOT NULL,
		city VARCHAR(80) NOT NULL,
		country CHAR(2) CHARACTER SET ascii NOT NULL,
		KEY (customer_id),
		FOREIGN KEY (customer_id) REFERENCES customers (id)`},
	{"products", `
		id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		sku VARCHAR(40) CHARACTER SET latin1 NOT NULL,
		name VARCHAR(120) NOT NULL,
		price DECIMAL(10,2) NOT NULL,
		weight FLOAT NULL,
		rating DOUBLE NULL,
		attributes JSON NOT NULL,
		description TEXT NULL,
		active BIT(1) NOT NULL DEFAULT b'1',
		UNIQUE KEY (sku)`},
	{"stock", `
		product_id INT UNSIGNED NOT NULL PRIMARY KEY,
		quantity INT NOT NULL,
		sold MEDIUMINT UNSIGNED NOT NULL DEFAULT 0,
		counted TIME NULL,
		FOREIGN KEY (product_id) REFERENCES products (id)`},
	{"orders", `
		id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		customer_id BIGINT UNSIGNED NOT NULL,
		status ENUM('placed','paid','shipped','returned') NOT NULL,
		total DECIMAL(12,2) NOT NULL,
		placed DATETIME(6) NOT NULL,
		note TEXT NULL,
		KEY (customer_id),
		FOREIGN KEY (customer_id) REFERENCES customers (id)`},
	{"order_items", `
		order_id BIGINT UNSIGNED NOT NULL,
		line TINYINT UNSIGNED NOT NULL,
		product_id INT UNSIGNED NOT NULL,
		quantity SMALLINT UNSIGNED NOT NULL,
		price DECIMAL(10,2) NOT NULL,
		PRIMARY KEY (order_id, line),
		KEY (product_id),
		FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE,
		FOREIGN KEY (product_id) REFERENCES products (id)`},
	{"payments", `
		id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		order_id BIGINT UNSIGNED NOT NULL,
		method ENUM('card','transfer','voucher') NOT NULL,
		amount DECIMAL(12,2) NOT NULL,
		reference BINARY(16) NOT NULL,
		paid TIMESTAMP(6) NOT NULL,
		UNIQUE KEY (reference),
		KEY (order_id),
		FOREIGN KEY (order_id) REFERENCES orders (id)`},
	{"audit", `
		kind VARCHAR(20) NOT NULL PRIMARY KEY,
		n BIGINT UNSIGNED NOT NULL`},
	{"heartbeat", `
		id TINYINT UNSIGNED NOT NULL PRIMARY KEY,
		n BIGINT UNSIGNED NOT NULL,
		at DATETIME(6) NOT NULL`},
}

// keyOf is the order in which a table is compared.
func keyOf(table string) string {
	switch table {
	case "stock":
		return "product_id"
	case "order_items":
		return "order_id, line"
	case "audit":
		return "kind"
	}
	return "id"
}

// statements create the shop on a server.
func statements() []string {
	list := []string{"CREATE DATABASE shop CHARACTER SET utf8mb4"}
	for _, t := range tables {
		list = append(list, "CREATE TABLE shop."+t.name+" ("+t.definition+") ENGINE=InnoDB")
	}
	return list
}

// The accounts have what the example file says they need, and no more.
func sourceAccount(password string) []string {
	return []string{
		"CREATE USER dfs@'%' IDENTIFIED BY '" + password + "'",
		"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO dfs@'%'",
		"GRANT SELECT ON shop.* TO dfs@'%'",
	}
}

func targetAccount(password string) []string {
	return []string{
		"CREATE USER dfs@'%' IDENTIFIED BY '" + password + "'",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO dfs@'%'",
		"GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON dfs.* TO dfs@'%'",
		"GRANT REPLICATION_APPLIER ON *.* TO dfs@'%'",
	}
}
