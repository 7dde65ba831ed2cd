package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const shown = `shop.users -> crm.people, unit "shop.users"
  id bigint           <- id (key)
  first varchar(40)   <- first
  last varchar(40)    <- last
  email varchar(60)   <- mail
  phone varchar(20)   <- phone, masked by truncate
  orders int          <- orders
  customer_since date <- created
  name varchar(81)    <- = trim(first + " " + last)
  class varchar(10)   <- a function of orders, created
  dropped: password

shop.orders -> crm.addresses, unit "addresses"
  order_id bigint   <- made by a function of main.Order (key)
  text varchar(100) <- made by a function of main.Order

shop.orders -> crm.orders, unit "shop.orders"
  id bigint           <- id (key)
  user_id bigint      <- user_id
  status varchar(10)  <- status
  total decimal(12,2) <- = price * quantity
  dropped: price
  dropped: quantity
  dropped: street
  dropped: city

`

func TestTry(t *testing.T) {
	var out strings.Builder
	require.NoError(t, try(t.Context(), &out))
	require.Equal(t, shown+`crm.people (id, first, last, email, phone, orders, customer_since, name, class)
  1|Ann|Lee|ann@example.com|0171|12|2019-05-01|Ann Lee|gold
  2|Bob|Ray|bob@example.com|NULL|11|2026-01-31|Bob Ray|silver
crm.addresses (order_id, text)
  10|High St 2, Bath
crm.orders (id, user_id, status, total)
  10|1|paid|12.50
`, out.String())
}

// The same on real servers, with tables made by the statements that it prints.
func TestRun(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	shop, crm := srv.Schema(t), srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+shop+".users (id bigint PRIMARY KEY, first varchar(40) NOT NULL, last varchar(40) NOT NULL, mail varchar(60) NOT NULL, "+
		"phone varchar(20), password varchar(60) NOT NULL, orders int NOT NULL, created date NOT NULL)",
		"CREATE TABLE "+shop+".orders (id bigint PRIMARY KEY, user_id bigint NOT NULL, price decimal(10,2) NOT NULL, quantity int NOT NULL, "+
			"status varchar(10) NOT NULL, street varchar(60) NOT NULL, city varchar(40))")

	var out strings.Builder
	err := run(t.Context(), srv.DSN(""), srv.DSN(""), shop, crm, &out)
	require.Equal(t, strings.NewReplacer("shop.", shop+".", "crm.", crm+".").Replace(shown), sorted(out.String()))
	require.Error(t, err)
	_, statements, ok := strings.Cut(err.Error(), "To make the tables, run on the target:")
	require.True(t, ok, err)
	for _, sql := range strings.Split(strings.TrimSpace(statements), ";\n\n") {
		srv.Exec(t, strings.TrimSuffix(sql, ";"))
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, srv.DSN(""), srv.DSN(""), shop, crm, new(strings.Builder)) }()
	db := srv.DB(t)
	query := func(sql string) string {
		var s *string
		if err := db.QueryRow(sql).Scan(&s); err != nil || s == nil {
			return ""
		}
		return *s
	}
	// The first checkpoint says that the starting place is fixed.
	begun := "SELECT seq FROM dfs.dfs_checkpoint WHERE name='transform " + crm + "' AND seq>0"
	require.Eventually(t, func() bool { return query(begun) != "" }, 3*time.Minute, 20*time.Millisecond)
	srv.Exec(t, "USE "+shop, "INSERT INTO users VALUES (1,'Ann','Lee','ann@example.com','0171 555 0199','secret',12,'2019-05-01')",
		"INSERT INTO orders VALUES (10,1,2.50,4,'draft','High St 1','Bath'), (11,1,9.99,1,'paid','',NULL)",
		"UPDATE orders SET quantity=5, status='paid', street='High St 2' WHERE id=10", "DELETE FROM orders WHERE id=11",
		"INSERT INTO orders VALUES (12,1,1,1,'paid','','')")
	last := "SELECT GROUP_CONCAT(id,' ',user_id,' ',status,' ',total ORDER BY id) FROM " + crm + ".orders"
	require.Eventually(t, func() bool { return query(last) == "10 1 paid 12.50,12 1 paid 1.00" }, 3*time.Minute, 20*time.Millisecond)
	require.Equal(t, "10 High St 2, Bath|12 , ", query("SELECT GROUP_CONCAT(order_id,' ',text ORDER BY order_id SEPARATOR '|') FROM "+crm+".addresses"))
	require.Equal(t, "1 Ann Lee 0171 gold ann@example.com", query("SELECT CONCAT_WS(' ',id,name,phone,class,email) FROM "+crm+".people"))
	cancel()
	require.NoError(t, <-done)
}

// sorted puts the users first: a source gives its tables in an order of its own.
func sorted(s string) string {
	parts := strings.SplitAfter(s, "\n\n")
	if len(parts) == 4 && strings.Contains(parts[2], ".people") {
		parts = []string{parts[2], parts[0], parts[1]}
	}
	return strings.Join(parts, "")
}
