//! The questions, and the SQL of a person who knows the data, such as that each order has its customer, which a rule cannot
//! know: `{customer}` is a table's name, `{d:5000}` an amount.

pub struct Question {
    pub name: &'static str,
    pub entity: &'static str,
    pub rule: &'static str,
    pub by_hand: &'static str,
    pub is_for_sqlite: bool,
}

const fn ask(name: &'static str, entity: &'static str, rule: &'static str, by_hand: &'static str) -> Question {
    Question { name, entity, rule, by_hand, is_for_sqlite: false }
}

const fn both(name: &'static str, entity: &'static str, rule: &'static str, by_hand: &'static str) -> Question {
    Question { name, entity, rule, by_hand, is_for_sqlite: true }
}

pub const QUESTIONS: [Question; 20] = [
    both(
        "customers of one segment",
        "customer",
        "customer.mktsegment == 'BUILDING'",
        "SELECT custkey FROM {customer} WHERE mktsegment = 'BUILDING'",
    ),
    both(
        "customers in Europe with a balance",
        "customer",
        "customer.nation.region.name == 'EUROPE' && customer.acctbal > 5000.0",
        "SELECT c.custkey FROM {customer} c JOIN {nation} n ON n.nationkey = c.nationkey \
         JOIN {region} r ON r.regionkey = n.regionkey WHERE r.name = 'EUROPE' AND c.acctbal > {d:5000}",
    ),
    both(
        "customers with an order since July 1998",
        "customer",
        "customer.orders.exists(o, o.orderdate >= date('1998-07-01'))",
        "SELECT custkey FROM {customer} c WHERE EXISTS \
         (SELECT 1 FROM {orders} o WHERE o.custkey = c.custkey AND o.orderdate >= '1998-07-01')",
    ),
    both(
        "customers who never ordered",
        "customer",
        "customer.orders.size() == 0",
        "SELECT custkey FROM {customer} c WHERE NOT EXISTS (SELECT 1 FROM {orders} o WHERE o.custkey = c.custkey)",
    ),
    both(
        "customers with at least 25 orders",
        "customer",
        "customer.orders.size() >= 25",
        "SELECT custkey FROM {orders} GROUP BY custkey HAVING count(*) >= 25",
    ),
    both(
        "customers of one segment by what they spent lately",
        "customer",
        "customer.mktsegment == 'AUTOMOBILE' \
         && customer.orders.filter(o, o.orderdate >= date('1997-01-01')).map(o, o.totalprice).sum() > 1000000.0",
        "SELECT c.custkey FROM {customer} c JOIN {orders} o ON o.custkey = c.custkey \
         WHERE c.mktsegment = 'AUTOMOBILE' AND o.orderdate >= '1997-01-01' \
         GROUP BY c.custkey HAVING sum(o.totalprice) > {d:1000000}",
    ),
    ask(
        "customers whose orders are large on average, and many",
        "customer",
        "customer.orders.map(o, o.totalprice).avg() > 220000.0 && customer.orders.size() > 10",
        "SELECT custkey FROM {orders} GROUP BY custkey HAVING avg(totalprice) > 220000 AND count(*) > 10",
    ),
    both(
        "customers who lapsed: five orders, none since June 1997",
        "customer",
        "customer.orders.size() > 5 && customer.orders.map(o, o.orderdate).max() < date('1997-06-01')",
        "SELECT custkey FROM {orders} GROUP BY custkey HAVING count(*) > 5 AND max(orderdate) < '1997-06-01'",
    ),
    both(
        "customers with orders of which none is urgent",
        "customer",
        "customer.orders.size() > 0 && customer.orders.all(o, o.orderpriority != '1-URGENT')",
        "SELECT custkey FROM {customer} c WHERE EXISTS (SELECT 1 FROM {orders} o WHERE o.custkey = c.custkey) \
         AND NOT EXISTS (SELECT 1 FROM {orders} o WHERE o.custkey = c.custkey AND o.orderpriority = '1-URGENT')",
    ),
    ask(
        "customers who returned what came by air (two hops)",
        "customer",
        "customer.orders.exists(o, o.lineitems.exists(l, l.returnflag == 'R' && l.shipmode == 'AIR' && l.quantity == 50))",
        "SELECT custkey FROM {customer} c WHERE EXISTS (SELECT 1 FROM {orders} o JOIN {lineitem} l ON l.orderkey = o.orderkey \
         WHERE o.custkey = c.custkey AND l.returnflag = 'R' AND l.shipmode = 'AIR' AND l.quantity = 50)",
    ),
    ask(
        "Germans who never bought a brand (four hops, negated)",
        "customer",
        "customer.nation.name == 'GERMANY' && !customer.orders.exists(o, o.lineitems.exists(l, l.part.brand == 'Brand#55'))",
        "SELECT c.custkey FROM {customer} c JOIN {nation} n ON n.nationkey = c.nationkey WHERE n.name = 'GERMANY' \
         AND NOT EXISTS (SELECT 1 FROM {orders} o JOIN {lineitem} l ON l.orderkey = o.orderkey \
         JOIN {part} p ON p.partkey = l.partkey WHERE o.custkey = c.custkey AND p.brand = 'Brand#55')",
    ),
    both(
        "orders of a quarter with a late line",
        "orders",
        "orders.orderdate >= date('1996-07-01') && orders.orderdate < date('1996-10-01') \
         && orders.lineitems.exists(l, l.commitdate < l.receiptdate)",
        "SELECT orderkey FROM {orders} o WHERE orderdate >= '1996-07-01' AND orderdate < '1996-10-01' AND EXISTS \
         (SELECT 1 FROM {lineitem} l WHERE l.orderkey = o.orderkey AND l.commitdate < l.receiptdate)",
    ),
    both(
        "orders of more than 300 pieces",
        "orders",
        "orders.lineitems.map(l, l.quantity).sum() > 300",
        "SELECT orderkey FROM {lineitem} GROUP BY orderkey HAVING sum(quantity) > 300",
    ),
    ask(
        "lines of Japanese customers with a promoted part (three hops)",
        "lineitem",
        "lineitem.shipdate >= date('1998-08-01') && lineitem.order.customer.nation.name == 'JAPAN' \
         && lineitem.part.type.startsWith('PROMO')",
        "SELECT l.orderkey, l.linenumber FROM {lineitem} l JOIN {orders} o ON o.orderkey = l.orderkey \
         JOIN {customer} c ON c.custkey = o.custkey JOIN {nation} n ON n.nationkey = c.nationkey \
         JOIN {part} p ON p.partkey = l.partkey \
         WHERE l.shipdate >= '1998-08-01' AND n.name = 'JAPAN' AND p.type LIKE 'PROMO%'",
    ),
    ask(
        "lines by their discounted price",
        "lineitem",
        "lineitem.extendedprice * (1.0 - lineitem.discount) > 90000.0 && lineitem.shipinstruct == 'NONE'",
        "SELECT orderkey, linenumber FROM {lineitem} WHERE extendedprice * (1 - discount) > 90000 AND shipinstruct = 'NONE'",
    ),
    ask(
        "parts of a kind not sold since September 1998",
        "part",
        "part.size == 15 && part.type.endsWith('BRASS') && !part.lineitems.exists(l, l.shipdate >= date('1998-09-01'))",
        "SELECT partkey FROM {part} p WHERE size = 15 AND type LIKE '%BRASS' AND NOT EXISTS \
         (SELECT 1 FROM {lineitem} l WHERE l.partkey = p.partkey AND l.shipdate >= '1998-09-01')",
    ),
    both(
        "parts of a brand that run out",
        "part",
        "part.brand == 'Brand#13' && part.partsupps.map(s, s.availqty).sum() < 8000",
        "SELECT p.partkey FROM {part} p JOIN {partsupp} s ON s.partkey = p.partkey WHERE p.brand = 'Brand#13' \
         GROUP BY p.partkey HAVING sum(s.availqty) < 8000",
    ),
    ask(
        "suppliers of one country often late (aggregate over three hops)",
        "supplier",
        "supplier.nation.name == 'SAUDI ARABIA' && supplier.lineitems.filter(l, l.receiptdate > l.commitdate \
         && l.order.orderstatus == 'F').size() > 180",
        "SELECT s.suppkey FROM {supplier} s JOIN {nation} n ON n.nationkey = s.nationkey \
         JOIN {lineitem} l ON l.suppkey = s.suppkey JOIN {orders} o ON o.orderkey = l.orderkey \
         WHERE n.name = 'SAUDI ARABIA' AND l.receiptdate > l.commitdate AND o.orderstatus = 'F' \
         GROUP BY s.suppkey HAVING count(*) > 180",
    ),
    ask(
        "suppliers of one country with much of a colour",
        "supplier",
        "supplier.nation.name == 'CANADA' && supplier.partsupps.exists(s, s.part.name.startsWith('forest') && s.availqty > 9000)",
        "SELECT s.suppkey FROM {supplier} s JOIN {nation} n ON n.nationkey = s.nationkey WHERE n.name = 'CANADA' AND EXISTS \
         (SELECT 1 FROM {partsupp} ps JOIN {part} p ON p.partkey = ps.partkey \
         WHERE ps.suppkey = s.suppkey AND p.name LIKE 'forest%' AND ps.availqty > 9000)",
    ),
    ask(
        "suppliers that sell dear lines into Asia (four hops)",
        "supplier",
        "supplier.lineitems.exists(l, l.extendedprice > 104000.0 && l.order.customer.nation.region.name == 'ASIA')",
        "SELECT suppkey FROM {supplier} s WHERE EXISTS (SELECT 1 FROM {lineitem} l JOIN {orders} o ON o.orderkey = l.orderkey \
         JOIN {customer} c ON c.custkey = o.custkey JOIN {nation} n ON n.nationkey = c.nationkey \
         JOIN {region} r ON r.regionkey = n.regionkey \
         WHERE l.suppkey = s.suppkey AND l.extendedprice > 104000 AND r.name = 'ASIA')",
    ),
];
