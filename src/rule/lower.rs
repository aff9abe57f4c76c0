//! From a checked rule to SQL for one dialect.
//!
//! A condition is lowered so that it is true exactly when the rule holds; otherwise it may be false or NULL, which
//! is the same to a WHERE. Where it must be one or the other (under `!`, as a value), `IS TRUE` settles it. So
//! equality with a constant stays a plain `=` that an index serves.

use sea_query::{Alias, Expr, ExprTrait, JoinType, Query as Statement, SelectStatement, TableRef};

use super::{
    Inputs, Param, Rule,
    ast::{Arithmetic, Comparison, Function, Many, Node, Type, Typed},
    check::scale_of,
    query::{Frame, Join, add_joins, aliased, all_of},
    schema::{Dialect, FieldType, Schema},
};

/// A subquery's alias, the pairs of keys that tie it to the row outside, and its table.
type Opened = (String, Vec<(String, String)>, TableRef);

pub(super) struct Lowering<'s> {
    pub schema: &'s Schema,
    pub dialect: Dialect,
    /// The frame of each variable in scope, by its number.
    pub frames: Vec<Frame>,
    aliases: usize,
    inputs: Inputs,
}

impl<'s> Lowering<'s> {
    pub fn new(schema: &'s Schema, dialect: Dialect, root: Frame) -> Self {
        Self { schema, dialect, frames: vec![root], aliases: 1, inputs: Inputs::at(jiff::Timestamp::UNIX_EPOCH) }
    }

    pub fn truth_of(&mut self, rule: &Rule, inputs: &Inputs) -> Expr {
        self.inputs = inputs.clone();
        self.truth(&rule.root)
    }

    pub fn solid_of(&mut self, rule: &Rule, inputs: &Inputs) -> Expr {
        self.inputs = inputs.clone();
        self.solid(&rule.root)
    }

    /// Template text with `?` for each expression. PostgreSQL's mark in sea-query's templates is `$`.
    pub fn custom(&self, template: &str, parts: impl IntoIterator<Item = Expr>) -> Expr {
        match self.dialect {
            Dialect::Sqlite => Expr::cust_with_exprs(template.to_owned(), parts),
            Dialect::Postgres => Expr::cust_with_exprs(template.replace('?', "$"), parts),
        }
    }

    fn fresh_alias(&mut self) -> String {
        self.aliases += 1;
        format!("t{}", self.aliases - 1)
    }

    /// The column `field` of variable `var`'s row, or of the row that `hops` lead to.
    pub fn column(&mut self, var: usize, hops: &[String], field: &str) -> Expr {
        let alias = self.joined(var, hops);
        Expr::col((Alias::new(alias), Alias::new(field)))
    }

    /// The alias of the row that to-one links lead to; joined on first use.
    fn joined(&mut self, var: usize, hops: &[String]) -> String {
        if hops.is_empty() {
            return self.frames[var].alias.clone();
        }
        if let Some(alias) = self.frames[var].paths.get(hops) {
            return alias.clone();
        }
        let (before, last) = (&hops[..hops.len() - 1], &hops[hops.len() - 1]);
        let from = self.joined(var, before);
        let alias = self.fresh_alias();
        let entity = self.entity_at(var, before);
        let link = self.schema.entity(&entity).and_then(|e| e.link(last));
        let Some((link, to)) = link.and_then(|link| Some((link, self.schema.entity(&link.to)?))) else {
            return alias;
        };
        let on = link.keys.iter().map(|(here, there)| {
            Expr::col((Alias::new(&alias), Alias::new(there))).equals((Alias::new(&from), Alias::new(here)))
        });
        let join = Join { kind: JoinType::LeftJoin, source: aliased(&to.table, &alias), on: all_of(on) };
        self.frames[var].joins.push(join);
        self.frames[var].paths.insert(hops.to_vec(), alias.clone());
        alias
    }

    fn entity_at(&self, var: usize, hops: &[String]) -> String {
        let mut entity = self.frames[var].entity.clone();
        for hop in hops {
            if let Some(link) = self.schema.entity(&entity).and_then(|e| e.link(hop)) {
                entity.clone_from(&link.to);
            }
        }
        entity
    }

    /// Joins along links of either kind from the root; the alias of the last.
    pub fn follow(&mut self, hops: &[String], kind: JoinType) -> String {
        let mut from = self.frames[0].alias.clone();
        let mut entity = self.frames[0].entity.clone();
        for hop in hops {
            let alias = self.fresh_alias();
            let link = self.schema.entity(&entity).and_then(|e| e.link(hop));
            if let Some((link, to)) = link.and_then(|link| Some((link, self.schema.entity(&link.to)?))) {
                let on = link.keys.iter().map(|(here, there)| {
                    Expr::col((Alias::new(&alias), Alias::new(there))).equals((Alias::new(&from), Alias::new(here)))
                });
                self.frames[0].joins.push(Join { kind, source: aliased(&to.table, &alias), on: all_of(on) });
                entity.clone_from(&link.to);
            }
            from = alias;
        }
        from
    }

    /// True exactly when the condition holds; else false or NULL.
    fn truth(&mut self, typed: &Typed) -> Expr {
        match &typed.node {
            Node::Boolean(b) => always(*b),
            Node::And(a, b) => self.truth(a).and(self.truth(b)),
            Node::Or(a, b) => self.truth(a).or(self.truth(b)),
            Node::Not(a) => self.negation(a),
            Node::Has(a) => self.presence(a),
            Node::HasLink { var, hops } => self.link_presence(*var, hops),
            Node::Compare(comparison, a, b) => self.comparison(*comparison, a, b),
            Node::In(a, list) => self.membership(a, list),
            Node::StartsWith(a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                match self.dialect {
                    Dialect::Postgres => self.custom("starts_with(?, ?)", [a, b]),
                    Dialect::Sqlite => self.custom("substr(?, 1, length(?)) = ?", [a, b.clone(), b]),
                }
            }
            Node::EndsWith(a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                match self.dialect {
                    Dialect::Postgres => self.custom("right(?, length(?)) = ?", [a, b.clone(), b]),
                    Dialect::Sqlite => {
                        self.custom("substr(?, max(1, length(?) - length(?) + 1)) = ?", [a.clone(), a, b.clone(), b])
                    }
                }
            }
            Node::Contains(a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                match self.dialect {
                    Dialect::Postgres => self.custom("strpos(?, ?) > 0", [a, b]),
                    Dialect::Sqlite => self.custom("instr(?, ?) > 0", [a, b]),
                }
            }
            Node::Exists(many, body) => self.exists(many, Some(body), false),
            Node::All(many, body) => Expr::not(self.exists(many, Some(body), true)),
            _ => self.value(typed),
        }
    }

    fn may_be_null(&self, typed: &Typed) -> bool {
        match &typed.node {
            Node::And(a, b) | Node::Or(a, b) => self.may_be_null(a) || self.may_be_null(b),
            Node::Compare(Comparison::Equal, a, b) => a.is_nullable != b.is_nullable,
            Node::Compare(_, a, b) | Node::StartsWith(a, b) | Node::EndsWith(a, b) | Node::Contains(a, b) => {
                a.is_nullable || b.is_nullable
            }
            Node::In(a, _) => a.is_nullable,
            // `negation` takes two off.
            Node::Not(a) => matches!(&a.node, Node::Not(inner) if self.may_be_null(inner)),
            Node::Field { .. } | Node::If(..) => typed.is_nullable,
            _ => false,
        }
    }

    /// True or false, never NULL.
    fn solid(&mut self, typed: &Typed) -> Expr {
        let truth = self.truth(typed);
        if self.may_be_null(typed) { self.custom("(?) IS TRUE", [truth]) } else { truth }
    }

    fn negation(&mut self, of: &Typed) -> Expr {
        if let Node::Not(inner) = &of.node {
            return self.truth(inner);
        }
        let truth = self.truth(of);
        if self.may_be_null(of) { self.custom("(?) IS NOT TRUE", [truth]) } else { Expr::not(truth) }
    }

    fn presence(&mut self, of: &Typed) -> Expr {
        if of.is_nullable { self.value(of).is_not_null() } else { always(true) }
    }

    fn link_presence(&mut self, var: usize, hops: &[String]) -> Expr {
        let key =
            self.schema.entity(&self.entity_at(var, hops)).and_then(|e| e.key.first()).cloned().unwrap_or_default();
        self.column(var, hops, &key).is_not_null()
    }

    fn comparison(&mut self, comparison: Comparison, a: &Typed, b: &Typed) -> Expr {
        if let Some(exists) = self.count_against_zero(comparison, a, b) {
            return exists;
        }
        let (left, right) = self.alike(a, b);
        let left = if is_constant(b) { self.telling(a, left) } else { left };
        match comparison {
            Comparison::Equal if a.is_nullable && b.is_nullable => match self.dialect {
                Dialect::Postgres => self.custom("? IS NOT DISTINCT FROM ?", [left, right]),
                Dialect::Sqlite => self.custom("? IS ?", [left, right]),
            },
            Comparison::Equal => left.eq(right),
            ordering => {
                let collate =
                    if a.ty == Type::STRING && self.dialect == Dialect::Postgres { " COLLATE \"C\"" } else { "" };
                self.custom(&format!("?{collate} {} ?", ordering.sql()), [left, right])
            }
        }
    }

    /// `x.size() > 0` and its kin ask whether there is one: a semi-join, not a count.
    fn count_against_zero(&mut self, comparison: Comparison, a: &Typed, b: &Typed) -> Option<Expr> {
        let (Node::Aggregate { many, filter, function: Function::Count, .. }, Node::Integer(n)) = (&a.node, &b.node)
        else {
            return None;
        };
        let is_some = match (comparison, n) {
            (Comparison::Greater, 0) | (Comparison::GreaterOrEqual, 1) => true,
            (Comparison::Equal | Comparison::LessOrEqual, 0) | (Comparison::Less, 1) => false,
            _ => return None,
        };
        let exists = self.exists(many, filter.as_deref(), false);
        Some(if is_some { exists } else { Expr::not(exists) })
    }

    fn membership(&mut self, a: &Typed, list: &[Typed]) -> Expr {
        if list.is_empty() {
            return always(false);
        }
        // One IN for each representation that the values need: 2 is no Double and a Date no instant by itself.
        let mut groups: Vec<(Shape, Vec<&Typed>)> = vec![];
        for item in list {
            let shape = Shape::of(a, item);
            match groups.iter_mut().find(|(known, _)| known.is_like(shape)) {
                Some((known, items)) => {
                    *known = known.wider(shape);
                    items.push(item);
                }
                None => groups.push((shape, vec![item])),
            }
        }
        let lists = groups.into_iter().map(|(shape, items)| {
            let left = self.shaped(a, shape);
            let left = self.telling(a, left);
            let values: Vec<Expr> = items.into_iter().map(|item| self.shaped(item, shape)).collect();
            left.is_in(values)
        });
        lists.reduce(ExprTrait::or).unwrap_or_else(|| always(false))
    }

    /// Both sides in one representation: instants as instants, numbers at one scale.
    fn alike(&mut self, a: &Typed, b: &Typed) -> (Expr, Expr) {
        let shape = Shape::of(a, b);
        (self.shaped(a, shape), self.shaped(b, shape))
    }

    fn shaped(&mut self, typed: &Typed, shape: Shape) -> Expr {
        match shape {
            Shape::Instant => self.instant(typed),
            Shape::Number(target) => self.number(typed, target),
            Shape::AsIs => self.value(typed),
        }
    }

    /// A constant that no column beside it gives a type; see [`Lowering::double_constant`].
    fn telling(&self, typed: &Typed, value: Expr) -> Expr {
        let name = match (&typed.node, typed.ty, self.dialect) {
            (Node::Text(_) | Node::Param(_), Type::STRING, Dialect::Postgres) => "text",
            (Node::Param(_), Type::BOOLEAN, Dialect::Postgres) => "boolean",
            _ => return value,
        };
        self.custom(&format!("CAST(? AS {name})"), [value])
    }

    /// A Date as its midnight, UTC.
    fn instant(&mut self, typed: &Typed) -> Expr {
        match (&typed.node, typed.ty, self.dialect) {
            (Node::Date(date), ..) => {
                let midnight =
                    date.to_zoned(jiff::tz::TimeZone::UTC).map_or(jiff::Timestamp::UNIX_EPOCH, |z| z.timestamp());
                self.timestamp(midnight)
            }
            (_, Type::DATE, Dialect::Postgres) => {
                let value = self.value(typed);
                self.custom("(CAST(? AS timestamp) AT TIME ZONE 'UTC')", [value])
            }
            (_, Type::DATE, Dialect::Sqlite) => {
                let value = self.value(typed);
                self.custom("(CAST(strftime('%s', ?) AS INTEGER) * 1000000)", [value])
            }
            _ => self.value(typed),
        }
    }

    /// To the microsecond; PostgreSQL would round what is finer.
    fn timestamp(&self, at: jiff::Timestamp) -> Expr {
        let at_us = at.as_microsecond();
        match self.dialect {
            Dialect::Sqlite => Expr::val(at_us),
            Dialect::Postgres => {
                let at = jiff::Timestamp::from_microsecond(at_us).unwrap_or(at);
                self.custom("CAST(? AS timestamptz)", [Expr::val(at.to_string())])
            }
        }
    }

    /// A number in the representation that both sides of an operation share.
    fn number(&mut self, typed: &Typed, target: FieldType) -> Expr {
        let scale = match target {
            FieldType::Decimal { scale } => scale,
            FieldType::Double => return self.double(typed),
            _ => return self.value(typed),
        };
        match (&typed.node, typed.ty, self.dialect) {
            (Node::Double(d), _, Dialect::Sqlite) => Expr::val(scaled(&format!("{d}"), scale)),
            (Node::Double(d), _, Dialect::Postgres) => self.custom("CAST(? AS numeric)", [Expr::val(format!("{d}"))]),
            (Node::Integer(n), _, Dialect::Sqlite) => Expr::val(scaled(&n.to_string(), scale)),
            (_, ty, Dialect::Sqlite) => {
                let own = if let Type::Field(FieldType::Decimal { scale }) = ty { scale } else { 0 };
                let value = self.value(typed);
                if own == scale {
                    value
                } else {
                    value.mul(10_i64.saturating_pow(u32::from(scale.saturating_sub(own))))
                }
            }
            (_, _, Dialect::Postgres) => self.value(typed),
        }
    }

    /// sqlx keeps prepared statements by their text, and PostgreSQL reads the bytes of a bind as the type that the
    /// statement was first prepared with: without the cast `score > 1.5` would be run as `score > 1` was prepared.
    fn double_constant(&self, d: f64) -> Expr {
        match self.dialect {
            Dialect::Sqlite => Expr::val(d),
            Dialect::Postgres => self.custom("CAST(? AS double precision)", [Expr::val(d)]),
        }
    }

    fn double(&mut self, typed: &Typed) -> Expr {
        let value = self.value(typed);
        match (typed.ty, self.dialect) {
            (Type::Field(FieldType::Decimal { scale }), Dialect::Sqlite) => {
                self.custom("(? / ?)", [value, Expr::val(10_f64.powi(i32::from(scale)))])
            }
            (Type::Field(FieldType::Decimal { .. }), Dialect::Postgres) => {
                self.custom("CAST(? AS double precision)", [value])
            }
            _ => value,
        }
    }

    fn value(&mut self, typed: &Typed) -> Expr {
        match &typed.node {
            Node::Text(text) => Expr::val(text.clone()),
            Node::Integer(n) => Expr::val(*n),
            Node::Double(d) => self.double_constant(*d),
            Node::Boolean(b) => always(*b),
            Node::Date(date) => match self.dialect {
                Dialect::Sqlite => Expr::val(date.to_string()),
                Dialect::Postgres => self.custom("CAST(? AS date)", [Expr::val(date.to_string())]),
            },
            Node::Timestamp(at) => self.timestamp(*at),
            Node::Now => self.timestamp(self.inputs.now),
            Node::Param(name) => match self.inputs.params.get(name) {
                Some(Param::String(s)) => Expr::val(s.clone()),
                Some(Param::Integer(n)) => Expr::val(*n),
                Some(Param::Double(d)) => self.double_constant(*d),
                Some(Param::Boolean(b)) => Expr::val(*b),
                None => Expr::cust("NULL"),
            },
            Node::Field { var, hops, field } => self.column(*var, hops, field),
            Node::LowerAscii(a) => self.ascii_case("lower", a),
            Node::UpperAscii(a) => self.ascii_case("upper", a),
            Node::Length(a) => {
                let a = self.value(a);
                self.custom("length(?)", [a])
            }
            Node::If(c, a, b) => {
                let c = self.truth(c);
                let (then, otherwise) = (self.value(a), self.value(b));
                let (a, b) = (self.telling(a, then), self.telling(b, otherwise));
                self.custom("CASE WHEN ? THEN ? ELSE ? END", [c, a, b])
            }
            Node::Arithmetic(what, a, b) => self.arithmetic(typed.ty, *what, a, b),
            Node::Span(unit_us, n) => match &n.node {
                Node::Integer(n) => Expr::val(n.saturating_mul(*unit_us)),
                _ => self.value(n).mul(*unit_us),
            },
            Node::Aggregate { many, filter, function, value } => {
                self.aggregate(typed.ty, many, filter.as_deref(), *function, value.as_deref())
            }
            _ => self.solid(typed),
        }
    }

    fn ascii_case(&mut self, function: &str, a: &Typed) -> Expr {
        let a = self.value(a);
        // The C collation folds ASCII only, as SQLite does.
        let collate = if self.dialect == Dialect::Postgres { " COLLATE \"C\"" } else { "" };
        self.custom(&format!("{function}(?{collate})"), [a])
    }

    fn arithmetic(&mut self, ty: Type, what: Arithmetic, a: &Typed, b: &Typed) -> Expr {
        let template = format!("(? {} ?)", what.sql());
        match (a.ty, b.ty) {
            (x, y) if x.is_number() && y.is_number() => {
                let (a, b) = match (ty, what) {
                    // Scales add up under multiplication, so each side keeps its own.
                    (Type::Field(FieldType::Decimal { .. }), Arithmetic::Multiply) => {
                        (self.own_scale(a), self.own_scale(b))
                    }
                    (Type::Field(target), _) => (self.number(a, target), self.number(b, target)),
                    _ => (self.value(a), self.value(b)),
                };
                self.custom(&template, [a, b])
            }
            (x, y) if x.is_time() && y.is_time() => {
                let (a, b) = (self.instant(a), self.instant(b));
                match self.dialect {
                    Dialect::Sqlite => self.custom("(? - ?)", [a, b]),
                    Dialect::Postgres => self.custom("CAST(extract(epoch FROM (? - ?)) * 1000000 AS bigint)", [a, b]),
                }
            }
            (Type::Duration, Type::Duration) => {
                let (a, b) = (self.value(a), self.value(b));
                self.custom(&template, [a, b])
            }
            (x, _) => {
                let (time, span) = if x == Type::Duration { (b, a) } else { (a, b) };
                let (time, span) = (self.instant(time), self.value(span));
                match self.dialect {
                    Dialect::Sqlite => self.custom(&template, [time, span]),
                    Dialect::Postgres => {
                        self.custom(&format!("(? {} ? * interval '1 microsecond')", what.sql()), [time, span])
                    }
                }
            }
        }
    }

    fn own_scale(&mut self, typed: &Typed) -> Expr {
        match &typed.node {
            Node::Double(d) => self.number(typed, FieldType::Decimal { scale: scale_of(*d) }),
            _ => self.value(typed),
        }
    }

    /// The subquery of a to-many link with its frame pushed; the caller lowers what is inside, then closes it.
    fn open(&mut self, many: &Many) -> Option<Opened> {
        let outer = self.entity_at(many.var, &many.hops);
        let schema = self.schema;
        let link = schema.entity(&outer).and_then(|e| e.link(&many.link))?;
        let to = schema.entity(&link.to)?;
        let alias = self.fresh_alias();
        self.frames.truncate(many.inner);
        self.frames.push(Frame::new(alias.clone(), &to.name));
        let source = aliased(&to.table, &alias);
        Some((alias, link.keys.clone(), source))
    }

    fn exists(&mut self, many: &Many, body: Option<&Typed>, is_negated: bool) -> Expr {
        let base = self.joined(many.var, &many.hops);
        let Some((alias, keys, source)) = self.open(many) else { return always(false) };
        let condition = body.map(|body| if is_negated { self.negation(body) } else { self.truth(body) });
        let mut select = Statement::select();
        select.expr(Expr::cust("1")).from(source);
        add_joins(&mut select, self.frames.pop().map(|f| f.joins).unwrap_or_default());
        select.and_where(link_keys(&keys, &alias, &base));
        condition.into_iter().for_each(|c| {
            select.and_where(c);
        });
        Expr::exists(select)
    }

    fn aggregate(
        &mut self,
        ty: Type,
        many: &Many,
        filter: Option<&Typed>,
        function: Function,
        value: Option<&Typed>,
    ) -> Expr {
        let is_outside = filter.into_iter().chain(value).any(|part| part.looks_outside(many.inner));
        let base = self.joined(many.var, &many.hops);
        let Some((alias, keys, source)) = self.open(many) else { return Expr::cust("NULL") };
        let condition = filter.map(|f| self.truth(f));
        let is_all_outside = value.is_some_and(|v| v.looks_outside(many.inner) && !v.looks_at(many.inner));
        let value = value.map(|v| {
            let scale = if let Type::Field(FieldType::Decimal { scale }) = v.ty { scale } else { 0 };
            (self.value(v), scale)
        });
        let mut select = Statement::select();
        if is_all_outside && let Some((value, scale)) = value {
            // SQL gives an aggregate to the query whose columns it reads, which would be the one outside.
            let each = self.fresh_alias();
            select.expr_as(value, Alias::new("v")).from(source);
            add_joins(&mut select, self.frames.pop().map(|f| f.joins).unwrap_or_default());
            condition.into_iter().for_each(|c| {
                select.and_where(c);
            });
            select.and_where(link_keys(&keys, &alias, &base));
            let column = Expr::col((Alias::new(&each), Alias::new("v")));
            let computed = self.aggregate_call(ty, function, Some((column, scale)));
            let select = Statement::select().expr(computed).from_subquery(select, Alias::new(&each)).to_owned();
            return self.none_is_zero(function, subquery(select));
        }
        let computed = self.aggregate_call(ty, function, value);
        select.from(source);
        add_joins(&mut select, self.frames.pop().map(|f| f.joins).unwrap_or_default());
        condition.into_iter().for_each(|c| {
            select.and_where(c);
        });
        let found = if is_outside {
            select.expr(computed).and_where(link_keys(&keys, &alias, &base));
            subquery(select)
        } else {
            self.join_grouped(many.var, select, computed, &keys, &alias, &base)
        };
        self.none_is_zero(function, found)
    }

    fn none_is_zero(&self, function: Function, found: Expr) -> Expr {
        if matches!(function, Function::Count | Function::Sum) { self.custom("COALESCE(?, 0)", [found]) } else { found }
    }

    /// One grouped derived table instead of a subquery per row.
    fn join_grouped(
        &mut self,
        var: usize,
        mut select: SelectStatement,
        computed: Expr,
        keys: &[(String, String)],
        alias: &str,
        base: &str,
    ) -> Expr {
        let derived = self.fresh_alias();
        for (_, there) in keys {
            let column = (Alias::new(alias), Alias::new(there));
            select.column(column.clone()).group_by_col(column.clone()).and_where(Expr::col(column).is_not_null());
        }
        select.expr_as(computed, Alias::new("v"));
        let on = link_keys(keys, &derived, base);
        let source = TableRef::SubQuery(select.into(), Alias::new(&derived).into());
        self.frames[var].joins.push(Join { kind: JoinType::LeftJoin, source, on });
        Expr::col((Alias::new(&derived), Alias::new("v")))
    }

    fn aggregate_call(&self, ty: Type, function: Function, value: Option<(Expr, u8)>) -> Expr {
        let Some((value, scale)) = value else { return Expr::cust("count(*)") };
        let text = ty == Type::STRING && self.dialect == Dialect::Postgres;
        match (function, self.dialect) {
            (Function::Count, _) => Expr::cust("count(*)"),
            (Function::Sum, Dialect::Postgres) if ty == Type::INTEGER => self.custom("CAST(sum(?) AS bigint)", [value]),
            (Function::Sum, _) => self.custom("sum(?)", [value]),
            (Function::Average, Dialect::Postgres) => self.custom("CAST(avg(?) AS double precision)", [value]),
            (Function::Average, Dialect::Sqlite) => {
                self.custom("(avg(?) / ?)", [value, Expr::val(10_f64.powi(i32::from(scale)))])
            }
            (Function::Minimum, _) => self.custom(if text { "min(? COLLATE \"C\")" } else { "min(?)" }, [value]),
            (Function::Maximum, _) => self.custom(if text { "max(? COLLATE \"C\")" } else { "max(?)" }, [value]),
        }
    }
}

fn always(holds: bool) -> Expr {
    Expr::cust(if holds { "TRUE" } else { "FALSE" })
}

fn is_constant(typed: &Typed) -> bool {
    matches!(typed.node, Node::Text(_) | Node::Param(_))
}

fn subquery(select: SelectStatement) -> Expr {
    Expr::SubQuery(None, Box::new(sea_query::SubQueryStatement::SelectStatement(select)))
}

fn link_keys(keys: &[(String, String)], there_alias: &str, here_alias: &str) -> Expr {
    all_of(keys.iter().map(|(here, there)| {
        Expr::col((Alias::new(there_alias), Alias::new(there))).equals((Alias::new(here_alias), Alias::new(here)))
    }))
}

/// The representation that both sides of a comparison share.
#[derive(Clone, Copy)]
enum Shape {
    Instant,
    Number(FieldType),
    AsIs,
}

impl Shape {
    fn of(a: &Typed, b: &Typed) -> Self {
        if a.ty.is_time() && b.ty.is_time() && a.ty != b.ty {
            Self::Instant
        } else if a.ty.is_number() && b.ty.is_number() {
            Self::Number(number_target(a, b))
        } else {
            Self::AsIs
        }
    }

    /// Whether a list can hold values of both: exact numbers can share a scale, a Double stands alone.
    fn is_like(self, other: Self) -> bool {
        let is_double = |shape| matches!(shape, Self::Number(FieldType::Double));
        match (self, other) {
            (Self::Number(_), Self::Number(_)) => is_double(self) == is_double(other),
            (Self::Instant, Self::Instant) | (Self::AsIs, Self::AsIs) => true,
            _ => false,
        }
    }

    fn wider(self, other: Self) -> Self {
        use FieldType::Decimal;
        match (self, other) {
            (Self::Number(Decimal { scale: x }), Self::Number(Decimal { scale: y })) if x > y => self,
            (Self::Number(Decimal { .. }), Self::Number(FieldType::Integer)) => self,
            _ => other,
        }
    }
}

/// The representation both sides of a comparison share; a Double literal beside a Decimal is a Decimal.
fn number_target(a: &Typed, b: &Typed) -> FieldType {
    let of = |x: &Typed, other: &Typed| match (x.ty, &x.node, other.ty) {
        (_, Node::Double(d), Type::Field(FieldType::Decimal { .. })) => FieldType::Decimal { scale: scale_of(*d) },
        (Type::Field(ty), ..) => ty,
        (Type::Duration, ..) => FieldType::Integer,
    };
    match (of(a, b), of(b, a)) {
        (FieldType::Double, _) | (_, FieldType::Double) => FieldType::Double,
        (FieldType::Decimal { scale: x }, FieldType::Decimal { scale: y }) => {
            FieldType::Decimal { scale: Ord::max(x, y) }
        }
        (decimal @ FieldType::Decimal { .. }, _) | (_, decimal @ FieldType::Decimal { .. }) => decimal,
        _ => FieldType::Integer,
    }
}

/// `150.5` at scale 2 is 15050; what does not fit is as far out as an integer goes.
fn scaled(text: &str, scale: u8) -> i64 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let padded = format!("{whole}{part:0<width$}", width = usize::from(scale));
    let cut = &padded[..(whole.len() + usize::from(scale)).min(padded.len())];
    cut.parse::<i64>().map_or(i64::MAX, |n| n).saturating_mul(sign)
}
