//! The file that a direct mail step makes: whether its template has what its channel wants of it.

use crate::{
    api::{
        channel::{MailFile, MailFormat},
        step::MessageStep,
        template::MessageTemplateSpec,
    },
    plan::{Finding, Ref},
    rule::nearest,
    send::mailing::misfit,
};

/// What is wrong with a channel's file for a template, as findings of the one or the other.
pub fn misfits(step: &MessageStep, template: &MessageTemplateSpec, file: &MailFile) -> Vec<Finding> {
    let (channel, owner) = (Ref::new("Channel", &step.channel), Ref::new("MessageTemplate", &step.template));
    let columns: Vec<_> = template.direct_mail.iter().flat_map(|mail| &mail.columns).collect();
    let mut found = vec![];
    if file.format == MailFormat::FixedWidth {
        let lacking = columns.iter().enumerate().filter(|(_, column)| column.width.is_none());
        found.extend(lacking.map(|(index, column)| {
            let at = format!("spec.directMail.columns[{index}].width");
            let message =
                format!("column `{}` has no width, and channel `{}` writes FixedWidth", column.name, step.channel);
            Finding::new(&owner, at, message)
        }));
    }
    for (index, seed) in file.seeds.iter().enumerate() {
        for (name, value) in &seed.values {
            let at = format!("spec.directMail.file.seeds[{index}].values");
            let Some(column) = columns.iter().find(|column| column.name == *name) else {
                let message = format!("template `{}` has no column `{name}`", step.template);
                let near = nearest(name, columns.iter().map(|column| column.name.as_str()));
                let finding = Finding::new(&channel, at, message);
                found.push(Finding { hint: near.map(|near| format!("did you mean `{near}`?")), ..finding });
                continue;
            };
            let width = column.width.filter(|_| file.format == MailFormat::FixedWidth);
            if let Some(problem) = width.and_then(|width| misfit(value, width.into())) {
                found.push(Finding::new(&channel, at, format!("the value of column `{name}` {problem}")));
            }
        }
    }
    found
}
