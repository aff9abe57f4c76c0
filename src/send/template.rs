//! Templates: Jinja text in parts and locales, the variables it reads, and the message it makes for one person.
//!
//! ```yaml
//! subject: "Your film {{ film.title }} was due on {{ rental.due | date }}"
//! ```
//!
//! A missing value prints as nothing and `default(…)` applies to it: missing values reach minijinja as *undefined*,
//! because a null would print as `none`.

use std::{collections::BTreeSet, ops::Range};

use minijinja::{
    AutoEscape, Environment, UndefinedBehavior, Value,
    machinery::{
        ast::{CallArg, Expr, Stmt},
        parse,
    },
    syntax::SyntaxConfig,
};

use crate::api::template::MessageTemplateSpec;

/// A loop over a list of a thousand items with a dozen expressions stays far below; an endless one ends here.
const FUEL: u64 = 1_000_000;
/// Mail systems commonly refuse more than 10 MiB; a part near one is a mistake.
const PART_BYTES_MAX: usize = 1024 * 1024;
const PARTS: [&str; 3] = ["subject", "text", "html"];

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProblem {
    /// The path of the part in the MessageTemplate: `spec.email.subject`.
    pub path: String,
    /// Bytes in that part.
    pub span: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

/// A variable that a template reads, such as `["customer", "first_name"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub names: Vec<String>,
    pub path: String,
    pub span: Range<usize>,
}

/// A message's words for one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub subject: String,
    pub text: Option<String>,
    pub html: Option<String>,
}

/// A template that compiles.
pub struct Template {
    environment: Environment<'static>,
    /// The parts that each locale has; the empty locale is the base.
    parts: BTreeSet<(String, &'static str)>,
    reads: Vec<Read>,
}

impl Template {
    pub fn compile(spec: &MessageTemplateSpec) -> Result<Self, Vec<TemplateProblem>> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_fuel(Some(FUEL));
        environment
            .set_auto_escape_callback(|name| if name.ends_with("html") { AutoEscape::Html } else { AutoEscape::None });
        environment.add_filter("date", date);
        let mut template = Self { environment, parts: BTreeSet::new(), reads: vec![] };
        let mut problems = vec![];
        for (locale, path, part, source) in sources(spec) {
            match reads(&source, &path) {
                Ok(reads) => template.reads.extend(reads),
                Err(found) => {
                    problems.extend(found);
                    continue;
                }
            }
            match template.environment.add_template_owned(format!("{locale}/{part}"), source.clone()) {
                Ok(()) => {
                    template.parts.insert((locale, part));
                }
                Err(error) => problems.push(syntax_problem(&source, &path, &error)),
            }
        }
        if problems.is_empty() { Ok(template) } else { Err(problems) }
    }

    /// Every variable that the template really reads.
    pub fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// Renders for a locale; `it-CH` falls back to `it` and then to the base, part by part.
    ///
    /// # Errors
    /// What failed, without a personal value.
    pub fn render(&self, locale: Option<&str>, context: &Value) -> Result<Rendered, String> {
        let subject = self.part("subject", locale, context)?.unwrap_or_default();
        // A line break in a subject would begin another header.
        let subject = subject.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Rendered { subject, text: self.part("text", locale, context)?, html: self.part("html", locale, context)? })
    }

    fn part(&self, part: &'static str, locale: Option<&str>, context: &Value) -> Result<Option<String>, String> {
        let Some(chosen) = fallbacks(locale).into_iter().find(|l| self.parts.contains(&(l.clone(), part))) else {
            return Ok(None);
        };
        let fault = |error: &minijinja::Error| {
            let line = error.line().map_or(String::new(), |line| format!(" in line {line}"));
            format!("{part}{line}: {:?}", error.kind())
        };
        let template = self.environment.get_template(&format!("{chosen}/{part}")).map_err(|e| fault(&e))?;
        let rendered = template.render(context).map_err(|e| fault(&e))?;
        if rendered.len() > PART_BYTES_MAX {
            return Err(format!("{part}: more than {PART_BYTES_MAX} bytes"));
        }
        Ok(Some(rendered))
    }
}

fn fallbacks(locale: Option<&str>) -> Vec<String> {
    let locale = locale.unwrap_or("").trim().replace('_', "-");
    let language = locale.split('-').next().unwrap_or("").to_owned();
    vec![locale, language, String::new()]
}

/// Each part with its locale, its path in the manifest and its text.
fn sources(spec: &MessageTemplateSpec) -> Vec<(String, String, &'static str, String)> {
    let base = [Some(&spec.email.subject), spec.email.text.as_ref(), spec.email.html.as_ref()];
    let mut found = vec![];
    let mut add = |locale: &str, prefix: &str, parts: [Option<&String>; 3]| {
        for (part, text) in PARTS.iter().zip(parts) {
            found.extend(text.map(|text| (locale.to_owned(), format!("{prefix}email.{part}"), *part, text.clone())));
        }
    };
    add("", "spec.", base);
    for (locale, variant) in &spec.locales {
        let email = &variant.email;
        add(
            locale,
            &format!("spec.locales.{locale}."),
            [email.subject.as_ref(), email.text.as_ref(), email.html.as_ref()],
        );
    }
    found
}

fn syntax_problem(source: &str, path: &str, error: &minijinja::Error) -> TemplateProblem {
    let span = error.range().unwrap_or_else(|| {
        let start = source.split_inclusive('\n').take(error.line().unwrap_or(1).saturating_sub(1)).map(str::len).sum();
        start..start
    });
    let message = error.detail().map_or_else(|| format!("{:?}", error.kind()), str::to_owned);
    TemplateProblem { path: path.to_owned(), span, message: format!("this is not a template: {message}"), hint: None }
}

/// A date of a timestamp or date: `2026-03-12`, or by a strftime format, in a time zone.
fn date(value: &Value, format: Option<String>, zone: Option<String>) -> Result<Value, minijinja::Error> {
    let Some(text) = value.as_str() else { return Ok(Value::UNDEFINED) };
    let fault = |message: String| minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message);
    let format = format.as_deref().unwrap_or("%Y-%m-%d");
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        let zoned = at.in_tz(zone.as_deref().unwrap_or("UTC")).map_err(|e| fault(e.to_string()))?;
        return jiff::fmt::strtime::format(format, &zoned).map(Value::from).map_err(|e| fault(e.to_string()));
    }
    let day = text.parse::<jiff::civil::Date>().map_err(|_| fault("date wants a Date or a Timestamp".to_owned()))?;
    jiff::fmt::strtime::format(format, day).map(Value::from).map_err(|e| fault(e.to_string()))
}

fn reads(source: &str, path: &str) -> Result<Vec<Read>, Vec<TemplateProblem>> {
    let tree =
        parse(source, "part", SyntaxConfig::default()).map_err(|error| vec![syntax_problem(source, path, &error)])?;
    let mut walk = Walk { path, found: vec![], problems: vec![], locals: vec![BTreeSet::from(["loop".to_owned()])] };
    walk.statement(&tree);
    if walk.problems.is_empty() { Ok(walk.found) } else { Err(walk.problems) }
}

/// Collects what a template reads, with the names that it defines itself.
struct Walk<'p> {
    path: &'p str,
    found: Vec<Read>,
    problems: Vec<TemplateProblem>,
    locals: Vec<BTreeSet<String>>,
}

impl Walk<'_> {
    fn scoped(&mut self, names: impl IntoIterator<Item = String>, body: &[Stmt<'_>]) {
        self.locals.push(names.into_iter().collect());
        body.iter().for_each(|s| self.statement(s));
        self.locals.pop();
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(t) => t.children.iter().for_each(|s| self.statement(s)),
            Stmt::EmitExpr(e) => self.expression(&e.expr),
            Stmt::ForLoop(f) => {
                self.expression(&f.iter);
                let names = targets(&f.target);
                self.locals.push(names.into_iter().collect());
                f.filter_expr.iter().for_each(|e| self.expression(e));
                f.body.iter().for_each(|s| self.statement(s));
                self.locals.pop();
                f.else_body.iter().for_each(|s| self.statement(s));
            }
            Stmt::IfCond(i) => {
                self.expression(&i.expr);
                i.true_body.iter().chain(&i.false_body).for_each(|s| self.statement(s));
            }
            Stmt::WithBlock(w) => {
                let mut names = vec![];
                for (target, value) in &w.assignments {
                    self.expression(value);
                    names.extend(targets(target));
                }
                self.scoped(names, &w.body);
            }
            Stmt::Set(s) => {
                self.expression(&s.expr);
                self.define(targets(&s.target));
            }
            Stmt::SetBlock(s) => {
                s.filter.iter().for_each(|e| self.expression(e));
                s.body.iter().for_each(|s| self.statement(s));
                self.define(targets(&s.target));
            }
            Stmt::AutoEscape(a) => a.body.iter().for_each(|s| self.statement(s)),
            Stmt::FilterBlock(f) => {
                self.expression(&f.filter);
                f.body.iter().for_each(|s| self.statement(s));
            }
            Stmt::Macro(m) => {
                self.define(vec![m.name.to_owned()]);
                m.defaults.iter().for_each(|e| self.expression(e));
                self.scoped(m.args.iter().flat_map(targets).chain(["caller".to_owned()]), &m.body);
            }
            Stmt::CallBlock(c) => {
                self.expression(&c.call.expr);
                self.arguments(&c.call.args);
                self.scoped(c.macro_decl.args.iter().flat_map(targets), &c.macro_decl.body);
            }
            Stmt::Do(d) => {
                self.expression(&d.call.expr);
                self.arguments(&d.call.args);
            }
            _ => {}
        }
    }

    fn define(&mut self, names: Vec<String>) {
        if let Some(scope) = self.locals.last_mut() {
            scope.extend(names);
        }
    }

    fn expression(&mut self, expr: &Expr<'_>) {
        if let Some((names, dynamic)) = chain(expr) {
            return self.read(expr, names, dynamic);
        }
        match expr {
            Expr::GetAttr(g) => self.expression(&g.expr),
            Expr::GetItem(g) => {
                self.expression(&g.expr);
                self.expression(&g.subscript_expr);
            }
            Expr::Slice(s) => {
                self.expression(&s.expr);
                [&s.start, &s.stop, &s.step].into_iter().flatten().for_each(|e| self.expression(e));
            }
            Expr::UnaryOp(u) => self.expression(&u.expr),
            Expr::BinOp(b) => {
                self.expression(&b.left);
                self.expression(&b.right);
            }
            Expr::Compare(c) => {
                self.expression(&c.expr);
                c.ops.iter().for_each(|op| self.expression(&op.expr));
            }
            Expr::IfExpr(i) => {
                self.expression(&i.test_expr);
                self.expression(&i.true_expr);
                i.false_expr.iter().for_each(|e| self.expression(e));
            }
            Expr::Filter(f) => {
                f.expr.iter().for_each(|e| self.expression(e));
                self.arguments(&f.args);
            }
            Expr::Test(t) => {
                self.expression(&t.expr);
                self.arguments(&t.args);
            }
            Expr::Call(c) => {
                // A name that is called is a function or a macro, not a field.
                if !matches!(c.expr, Expr::Var(_)) {
                    self.expression(&c.expr);
                }
                self.arguments(&c.args);
            }
            Expr::List(l) => l.items.iter().for_each(|e| self.expression(e)),
            Expr::Tuple(t) => t.items.iter().for_each(|e| self.expression(e)),
            Expr::Map(m) => m.keys.iter().chain(&m.values).for_each(|e| self.expression(e)),
            _ => {}
        }
    }

    fn arguments(&mut self, args: &[CallArg<'_>]) {
        for arg in args {
            match arg {
                CallArg::Pos(e) | CallArg::Kwarg(_, e) | CallArg::PosSplat(e) | CallArg::KwargSplat(e) => {
                    self.expression(e)
                }
            }
        }
    }

    fn read(&mut self, expr: &Expr<'_>, names: Vec<String>, dynamic: Option<&Expr<'_>>) {
        dynamic.into_iter().for_each(|e| self.expression(e));
        if self.locals.iter().any(|scope| names.first().is_some_and(|n| scope.contains(n))) {
            return;
        }
        let span = expr.span();
        let span = span.start_offset as usize..span.end_offset as usize;
        if dynamic.is_some() {
            let message = format!("which field of `{}` is read cannot be known before it is sent", names.join("."));
            self.problems.push(TemplateProblem {
                path: self.path.to_owned(),
                span,
                message,
                hint: Some("name the field".to_owned()),
            });
            return;
        }
        self.found.push(Read { names, path: self.path.to_owned(), span });
    }
}

/// `a.b["c"]` as names; the expression of a subscript that is not constant stops the chain.
fn chain<'e, 's>(expr: &'e Expr<'s>) -> Option<(Vec<String>, Option<&'e Expr<'s>>)> {
    match expr {
        Expr::Var(v) => Some((vec![v.id.to_owned()], None)),
        Expr::GetAttr(g) => chain(&g.expr).map(|(mut names, dynamic)| {
            names.push(g.name.to_owned());
            (names, dynamic)
        }),
        Expr::GetItem(g) => chain(&g.expr).map(|(mut names, dynamic)| match g.subscript_expr.as_const() {
            Some(name) => {
                names.push(name.to_string());
                (names, dynamic)
            }
            None => (names, Some(&g.subscript_expr)),
        }),
        _ => None,
    }
}

fn targets(target: &Expr<'_>) -> Vec<String> {
    match target {
        Expr::Var(v) => vec![v.id.to_owned()],
        Expr::List(l) => l.items.iter().flat_map(targets).collect(),
        Expr::Tuple(t) => t.items.iter().flat_map(targets).collect(),
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::template::{EmailTemplate, EmailVariant, LocaleVariant};

    fn spec(subject: &str, text: &str) -> MessageTemplateSpec {
        let email =
            EmailTemplate { subject: subject.into(), text: Some(text.into()), html: Some("<b>{{ c.n }}</b>".into()) };
        MessageTemplateSpec { email, locales: BTreeMap::new() }
    }

    fn read_names(text: &str) -> Vec<String> {
        let template = Template::compile(&spec("s", text)).unwrap();
        let names = template.reads().iter().filter(|r| r.path.ends_with("text")).map(|r| r.names.join("."));
        names.collect()
    }

    #[test]
    fn reads_are_found_wherever_they_stand() {
        let text = "{% for i in c.items %}{{ i.name }}{{ c.x }}{% endfor %}{% set y = c.z %}{{ y }}{{ c['w'] | default(d.v) }}";
        assert_eq!(read_names(text), ["c.items", "c.x", "c.z", "c.w", "d.v"]);
        assert_eq!(read_names("{% if a.b is defined and a.c > 1 %}{{ loop }}{% endif %}"), ["a.b", "a.c"]);
    }

    #[test]
    fn missing_values_print_as_nothing() {
        let template =
            Template::compile(&spec("Dear {{ c.n | default('friend') }}\r\nBcc: x", "[{{ c.n }}{{ c.n.o }}]")).unwrap();
        let rendered = template.render(None, &minijinja::context! { c => BTreeMap::<String, String>::new() }).unwrap();
        assert_eq!(rendered.subject, "Dear friend Bcc: x");
        assert_eq!(rendered.text.as_deref(), Some("[]"));
    }

    #[test]
    fn html_is_escaped_and_text_is_not() {
        let template = Template::compile(&spec("{{ c.n }}", "{{ c.n }}")).unwrap();
        let rendered = template.render(None, &minijinja::context! { c => minijinja::context! { n => "a<b" } }).unwrap();
        assert_eq!((rendered.text.as_deref(), rendered.html.as_deref()), (Some("a<b"), Some("<b>a&lt;b</b>")));
    }

    #[test]
    fn locales_fall_back_part_by_part() {
        let mut spec = spec("Hello", "text");
        let email = EmailVariant { subject: Some("Ciao".into()), text: None, html: None };
        spec.locales.insert("it".into(), LocaleVariant { email });
        let template = Template::compile(&spec).unwrap();
        let rendered = template.render(Some("it_CH"), &Value::UNDEFINED).unwrap();
        assert_eq!((rendered.subject.as_str(), rendered.text.as_deref()), ("Ciao", Some("text")));
    }

    #[test]
    fn problems_point_into_the_part() {
        let problems = Template::compile(&spec("{{ c.n", "{{ c[x] }}")).err().unwrap();
        assert_eq!(problems[0].path, "spec.email.subject");
        assert!(problems[1].message.contains("cannot be known"), "{problems:?}");
    }

    #[test]
    fn endless_loops_end() {
        let template = Template::compile(&spec(
            "s",
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
        ))
        .unwrap();
        assert!(template.render(None, &Value::UNDEFINED).unwrap_err().starts_with("text"));
    }

    #[test]
    fn dates_have_a_format_and_a_zone() {
        let template = Template::compile(&spec(
            "{{ t | date }} {{ t | date('%d.%m.%Y %H:%M', 'Europe/Rome') }}",
            "{{ d | date('%d/%m/%y') }}",
        ))
        .unwrap();
        let rendered =
            template.render(None, &minijinja::context! { t => "2026-03-31T22:30:00Z", d => "2026-03-31" }).unwrap();
        assert_eq!(
            (rendered.subject.as_str(), rendered.text.as_deref()),
            ("2026-03-31 01.04.2026 00:30", Some("31/03/26"))
        );
    }
}
