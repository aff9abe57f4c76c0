//! Whom two campaigns reach.

use jiff::Timestamp;
use sea_query::{Alias, Expr, ExprTrait, Query as Statement, SelectStatement, UnionType};

use super::{Moment, check_there, said};
use crate::{
    plan::{Bundle, Plan, message::MessagePlan},
    rule::Inputs,
    run::audiences::{self, Ground},
    store::{Sql, Store},
};

/// People in the channel steps of two campaigns of one dataset, before their consent is asked; or why they are unknown.
pub async fn people_in_both(
    store: &Store,
    one: (&Bundle, &Plan),
    other: (&Bundle, &Plan),
    moment: Moment,
) -> Result<i64, String> {
    let mut sides = vec![];
    for (bundle, plan) in [one, other] {
        let inputs = audiences::inputs_as_kept(store, &Ground::of(bundle, plan), moment.scheduled).await;
        let inputs = inputs.map_err(|e| said(&e))?.map_err(|name| audiences::unfilled(&name))?;
        sides.extend(people(bundle, plan, &inputs, moment.now));
    }
    let sides = <[SelectStatement; 2]>::try_from(sides);
    let [mut both, second] = sides.map_err(|_| "one of them sends nothing".to_owned())?;
    both.union(UnionType::Intersect, second);
    let mut count = Statement::select();
    count.expr(Expr::cust("count(*)")).from_subquery(both, Alias::new("c"));
    let sql = Sql::query(&count, one.1.dialect).map_err(|e| said(&e))?;
    for (bundle, plan) in [one, other] {
        check_there(store, bundle, plan, &sql, moment.rows_max).await?;
    }
    let row = store.fetch_one(sql).await.map_err(|e| said(&e))?;
    row.map_or(Ok(0), |row| row.get(0)).map_err(|e| said(&e))
}

/// The profiles of all channel steps.
fn people(bundle: &Bundle, plan: &Plan, inputs: &Inputs, now: Timestamp) -> Option<SelectStatement> {
    let (profile, sets) = (&*bundle.dataset.profile.entity, plan.chained(inputs, now));
    let of = |message: &MessagePlan| {
        let set = sets.get(&message.input)?.clone();
        let entries = message.entries(&plan.schema, profile, plan.dialect, set)?;
        let mut select = Statement::select();
        select.column((Alias::new("e"), Alias::new("profile"))).from_subquery(entries, Alias::new("e"));
        select.and_where(Expr::col((Alias::new("e"), Alias::new("reason"))).is_null());
        Some(select)
    };
    let mut all = plan.messages().filter_map(|(_, _, message)| of(message));
    let mut first = all.next()?;
    all.for_each(|other| {
        first.union(UnionType::Distinct, other);
    });
    let mut whole = Statement::select();
    whole.column((Alias::new("p"), Alias::new("profile"))).from_subquery(first, Alias::new("p"));
    Some(whole)
}
