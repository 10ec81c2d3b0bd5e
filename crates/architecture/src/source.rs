//! A crate's modules, parsed: every path that production code names, resolved to its origin.
//!
//! An imported name represents what it was imported from, `self` and `super` represent modules, and a name that the
//! crate's root re-exports represents its origin. The result starts with `crate` or with a crate's name.

use std::collections::{BTreeMap, HashMap};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, ItemMod, LitStr, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A crate's production code.
#[derive(Debug, Default)]
pub struct Source {
    pub mentions: Vec<Mention>,
    /// The names of called methods, with their positions.
    pub calls: Vec<Call>,
    /// String literals, in macros too, but not in attributes.
    pub texts: Vec<Text>,
    /// The files that belong to the production code.
    pub files: Vec<String>,
}

/// A path that a file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// Relative to the crate's `src`.
    pub file: String,
    pub line: usize,
    /// The module that contains it, from the crate's root.
    pub module: Vec<String>,
    /// Such as `crate::daemon::Daemon` or `tokio::net::TcpStream`.
    pub path: Vec<String>,
}

/// A method call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub file: String,
    pub line: usize,
    pub method: String,
}

/// A literal text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub file: String,
    pub line: usize,
    pub text: String,
}

impl Mention {
    /// Whether the path is this one or starts with it.
    pub fn is_below(&self, path: &str) -> bool {
        let mut segments = self.path.iter();
        path.split("::").all(|wanted| segments.next().is_some_and(|segment| segment == wanted))
    }
}

/// Reads a crate from the text of its files, by their paths below `src`. Starts at `lib.rs`, else at `main.rs`.
///
/// # Errors
/// A file that does not parse, or a module without a file.
pub fn read(files: &BTreeMap<String, String>) -> Result<Source, String> {
    let root = ["lib.rs", "main.rs"].into_iter().find(|root| files.contains_key(*root)).ok_or("the crate has no root")?;
    let mut reader = Reader { files, source: Source::default(), exports: HashMap::new() };
    reader.file(root, "", &[])?;
    let Reader { mut source, exports, .. } = reader;
    for mention in &mut source.mentions {
        resolve_exports(&mut mention.path, &exports);
    }
    Ok(source)
}

/// Replaces what the crate's root re-exports by its origin.
fn resolve_exports(path: &mut Vec<String>, exports: &HashMap<String, Vec<String>>) {
    // A root that re-exports under the same name would cause an endless loop.
    for _ in 0..4 {
        let Some(target) = path.get(1).filter(|_| path[0] == "crate").and_then(|name| exports.get(name)) else { return };
        let rest = path.split_off(2);
        path.clone_from(target);
        path.extend(rest);
    }
}

struct Reader<'a> {
    files: &'a BTreeMap<String, String>,
    source: Source,
    /// What the crate's root imports, by name.
    exports: HashMap<String, Vec<String>>,
}

impl Reader<'_> {
    /// Reads the module in `file`, whose child modules lie in `directory`.
    fn file(&mut self, file: &str, directory: &str, module: &[String]) -> Result<(), String> {
        let text = self.files.get(file).ok_or_else(|| format!("{file} is missing"))?;
        let parsed = syn::parse_file(text).map_err(|error| format!("{file}:{}: {error}", error.span().start().line))?;
        self.source.files.push(file.to_owned());
        self.module(file, directory, module, &parsed.items)
    }

    fn module(&mut self, file: &str, directory: &str, module: &[String], items: &[Item]) -> Result<(), String> {
        let declared = items.iter().filter_map(as_production_module).map(|child| (child.ident.to_string(), child.content.as_ref()));
        let by_macro = items.iter().flat_map(|item| self.declared_by_macro(item, directory)).map(|name| (name, None));
        let children: Vec<_> = declared.chain(by_macro).collect();
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        for (name, _) in &children {
            names.insert(name.clone(), absolute(module, std::slice::from_ref(name)));
        }
        for item in items {
            if let Item::Use(import) = item
                && !is_test(&import.attrs)
            {
                for (path, name) in leaves(&import.tree, &[]) {
                    names.insert(name, from_start(&path, module, &names));
                }
            }
        }
        if module.is_empty() {
            let own = |path: &[String], name: &String| path.len() == 2 && path[0] == "crate" && path[1] == *name;
            self.exports = names.iter().filter(|(name, path)| !own(path, name)).map(|(name, path)| (name.clone(), path.clone())).collect();
        }
        let mut walker = Walker { file, module, names: &names, source: &mut self.source };
        for item in items.iter().filter(|item| as_module(item).is_none()) {
            walker.visit_item(item);
        }
        for (name, content) in children {
            let below: Vec<String> = module.iter().cloned().chain([name.clone()]).collect();
            let path = joined(directory, &name);
            if let Some((_, items)) = content {
                self.module(file, &path, &below, items)?;
            } else {
                let (beside, within) = (format!("{path}.rs"), format!("{path}/mod.rs"));
                self.file(if self.files.contains_key(&beside) { &beside } else { &within }, &path, &below)?;
            }
        }
        Ok(())
    }

    /// The child modules that a macro of this crate declares: its words that name a file.
    fn declared_by_macro(&self, item: &Item, directory: &str) -> Vec<String> {
        let Item::Macro(invocation) = item else { return Vec::new() };
        // `macro_rules!` itself declares nothing.
        if invocation.ident.is_some() {
            return Vec::new();
        }
        let words = flat(invocation.mac.tokens.clone()).into_iter().filter_map(|token| match token {
            TokenTree::Ident(word) => Some(word.to_string()),
            _ => None,
        });
        let path = |word: &String| joined(directory, word);
        words
            .filter(|word| {
                self.files.contains_key(&format!("{}.rs", path(word))) || self.files.contains_key(&format!("{}/mod.rs", path(word)))
            })
            .collect()
    }
}

fn joined(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

fn as_module(item: &Item) -> Option<&ItemMod> {
    match item {
        Item::Mod(module) => Some(module),
        _ => None,
    }
}

fn as_production_module(item: &Item) -> Option<&ItemMod> {
    as_module(item).filter(|module| !is_test(&module.attrs))
}

/// Whether the code is compiled only for tests, by this crate's or another's.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let conditional = attribute.path().is_ident("cfg");
        let is_test = |token: &TokenTree| matches!(token, TokenTree::Ident(name) if name == "test");
        attribute.path().is_ident("test")
            || conditional && attribute.meta.require_list().is_ok_and(|list| flat(list.tokens.clone()).iter().any(is_test))
    })
}

/// Every path of an import, with its resulting name. Names of `*` and `_` imports do not matter.
fn leaves(tree: &UseTree, above: &[String]) -> Vec<(Vec<String>, String)> {
    let with = |name: String| above.iter().cloned().chain([name]).collect::<Vec<_>>();
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &with(path.ident.to_string())),
        UseTree::Group(group) => group.items.iter().flat_map(|item| leaves(item, above)).collect(),
        UseTree::Name(name) if name.ident == "self" => vec![(above.to_vec(), above.last().cloned().unwrap_or_default())],
        UseTree::Name(name) => vec![(with(name.ident.to_string()), name.ident.to_string())],
        UseTree::Rename(rename) if rename.ident == "self" => vec![(above.to_vec(), rename.rename.to_string())],
        UseTree::Rename(rename) => vec![(with(rename.ident.to_string()), rename.rename.to_string())],
        UseTree::Glob(_) => vec![(with("*".to_owned()), "*".to_owned())],
    }
}

fn absolute(module: &[String], path: &[String]) -> Vec<String> {
    [&["crate".to_owned()], module, path].concat()
}

/// The same path from the crate's root or from another crate.
fn from_start(path: &[String], module: &[String], names: &HashMap<String, Vec<String>>) -> Vec<String> {
    let up = path.iter().take_while(|segment| *segment == "super").count();
    match path.first().map(String::as_str) {
        Some("crate" | "$crate") => [&["crate".to_owned()], &path[1..]].concat(),
        Some("self") => absolute(module, &path[1..]),
        Some("super") => absolute(&module[..module.len().saturating_sub(up)], &path[up..]),
        Some(first) => match names.get(first) {
            Some(target) => [target, &path[1..]].concat(),
            None => path.to_vec(),
        },
        None => Vec::new(),
    }
}

/// Collects what the items of one module name.
struct Walker<'a> {
    file: &'a str,
    module: &'a [String],
    names: &'a HashMap<String, Vec<String>>,
    source: &'a mut Source,
}

impl Walker<'_> {
    fn mention(&mut self, path: &[String], line: usize) {
        let path = from_start(path, self.module, self.names);
        if path.len() > 1 {
            self.source.mentions.push(Mention { file: self.file.to_owned(), line, module: self.module.to_vec(), path });
        }
    }

    fn text(&mut self, literal: &LitStr) {
        let line = literal.span().start().line;
        self.source.texts.push(Text { file: self.file.to_owned(), line, text: literal.value() });
    }

    /// Paths and texts within the tokens of a macro, which are not parsed as syntax.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in flat(tokens) {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.mention(&std::mem::take(&mut path), line);
                    }
                    line = name.span().start().line;
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    if let TokenTree::Literal(literal) = other
                        && let Ok(text) = syn::parse2::<LitStr>(TokenTree::Literal(literal).into())
                    {
                        self.text(&text);
                    }
                    self.mention(&std::mem::take(&mut path), line);
                    colons = 0;
                }
            }
        }
        self.mention(&path, line);
    }
}

/// The tokens with the content of brackets inlined, each bracket as a comma.
fn flat(tokens: TokenStream) -> Vec<TokenTree> {
    let comma = || TokenTree::Punct(proc_macro2::Punct::new(',', proc_macro2::Spacing::Alone));
    let mut all = Vec::new();
    for token in tokens {
        if let TokenTree::Group(group) = token {
            all.push(comma());
            all.extend(flat(group.stream()));
            all.push(comma());
        } else {
            all.push(token);
        }
    }
    all
}

impl<'ast> Visit<'ast> for Walker<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        let line = import.span().start().line;
        for (path, _) in leaves(&import.tree, &[]) {
            // An import names its origin, not what another import of that name represents.
            let path = if path.len() == 1 { path } else { from_start(&path, self.module, self.names) };
            self.source.mentions.push(Mention { file: self.file.to_owned(), line, module: self.module.to_vec(), path });
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.mention(&segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let line = call.method.span().start().line;
        self.source.calls.push(Call { file: self.file.to_owned(), line, method: call.method.to_string() });
        visit::visit_expr_method_call(self, call);
    }

    fn visit_lit_str(&mut self, literal: &'ast LitStr) {
        self.text(literal);
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.visit_path(&invocation.path);
        self.tokens(invocation.tokens.clone());
    }
}
